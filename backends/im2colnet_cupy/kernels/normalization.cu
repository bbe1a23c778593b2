// Batch norm of images (H, C, M), M = W·N: sums are made in sums.cu (formulas: im2colnet/backend/normalization.py).

// From [Σx, Σ(x - mean)²] over n numbers make [mean, variance, 1 / √(variance + eps), scale, shift], where y = scale·x + shift
extern "C" __global__ void statistics(
    const double* sums, const T* weight, const T* bias, double* out, int C, double n, double eps, int weighted, int shifted
) {
    EACH(c, C) {
        const double mean = sums[c] / n, var = sums[C + c] / n;
        const double inverse = 1 / sqrt(var + eps), scale = weighted ? inverse * (double)weight[c] : inverse;
        out[c] = mean;
        out[C + c] = var;
        out[2 * C + c] = inverse;
        out[3 * C + c] = scale;
        out[4 * C + c] = (shifted ? (double)bias[c] : 0) - mean * scale;
    }
}

// From [Σdy, Σdy·(x - mean)] over n numbers make [b, c], where dx = scale·dy + b·x + c
extern "C" __global__ void input_grad(
    const double* sums, const double* mean, const double* inverse, const double* scale, double* out, int C, double n
) {
    EACH(c, C) {
        const double b = -scale[c] * inverse[c] * inverse[c] * sums[C + c] / n;
        out[c] = b;
        out[C + c] = -scale[c] * sums[c] / n - b * mean[c];
    }
}

// Move the running mean and variance towards the batch's; unbiased = n / (n - 1)
extern "C" __global__ void running(
    const double* mean, const double* var, T* running_mean, T* running_var, int C, double momentum, double unbiased
) {
    EACH(c, C) {
        running_mean[c] = (T)((1 - momentum) * running_mean[c] + momentum * mean[c]);
        running_var[c] = (T)((1 - momentum) * running_var[c] + momentum * unbiased * var[c]);
    }
}

// Join the parts of kind 1 of sums.cu: out = [Σx, Σ(x - Σx/n)²], n = H·M
extern "C" __global__ void moments(const double* partial, const T* x, double* out, int parts, int H, int C, int M) {
    EACH(c, C) {
        double sum = 0, square = 0;
        for (int p = 0; p < parts; ++p) {
            sum += partial[((Index)p * 2) * C + c];
            square += partial[((Index)p * 2 + 1) * C + c];
        }
        const double n = (double)H * M, spread = square - sum * sum / n;
        out[c] = sum + n * (double)x[(Index)c * M];
        out[C + c] = spread <= 0 ? 0 : spread;
    }
}

// y = x·scale + other·other_scale + shift, then the activation; y may be x
extern "C" __global__ void affine(
    const T* x, const double* scale, const double* shift, const T* other, const double* other_scale, T* y, int H, int C,
    int M, int two, int kind, double k1, double k2
) {
    EACH(e, (Index)H * C * M) {
        const int c = e / M % C;
        A v = (A)x[e] * (A)scale[c];
        if (two) v += (A)other[e] * (A)other_scale[c];
        y[e] = (T)activated(v + (A)shift[c], kind, k1, k2);
    }
}
