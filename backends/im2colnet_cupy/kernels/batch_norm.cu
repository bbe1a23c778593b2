// What batch norm makes of its sums, for each of C channels (formulas: im2colnet/backend.py).

// of [Σx, Σ(x - mean)²] over n numbers: [mean, variance, 1 / √(variance + eps), scale, shift], where y = scale·x + shift
extern "C" __global__ void statistics(
    const double* sums, const T* weight, const T* bias, double* out, int C, double n, double eps, int affine
) {
    EACH(c, C) {
        const double mean = sums[c] / n, var = sums[C + c] / n;
        const double inverse = 1 / sqrt(var + eps), scale = affine ? inverse * (double)weight[c] : inverse;
        out[c] = mean;
        out[C + c] = var;
        out[2 * C + c] = inverse;
        out[3 * C + c] = scale;
        out[4 * C + c] = (affine ? (double)bias[c] : 0) - mean * scale;
    }
}

// of [Σdy, Σdy·(x - mean)] over n numbers: [b, c], where dx = scale·dy + b·x + c
extern "C" __global__ void input_grad(
    const double* sums, const double* mean, const double* inverse, const double* scale, double* out, int C, double n
) {
    EACH(c, C) {
        const double b = -scale[c] * inverse[c] * inverse[c] * sums[C + c] / n;
        out[c] = b;
        out[C + c] = -scale[c] * sums[c] / n - b * mean[c];
    }
}

// the running mean and variance, moved towards the batch's; unbiased = n / (n - 1)
extern "C" __global__ void running(
    const double* mean, const double* var, T* running_mean, T* running_var, int C, double momentum, double unbiased
) {
    EACH(c, C) {
        running_mean[c] = (T)((1 - momentum) * running_mean[c] + momentum * mean[c]);
        running_var[c] = (T)((1 - momentum) * running_var[c] + momentum * unbiased * var[c]);
    }
}
