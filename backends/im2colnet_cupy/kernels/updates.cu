// A kernel for each rule of im2colnet/optim, which has the formulas: one pass over all parameters p and gradients g. After
// them come the vectors of the optimiser's state by their names, the number of parameters, and the optimiser's scalars.
// What a setting does not use is neither read nor written. sign = -1 to maximize, else 1.

// share = 1 - dampening, but 1 in the first step
extern "C" __global__ void sgd(
    T* p, const T* g, T* velocity, int size, double lr, double momentum, double weight_decay, int nesterov, double share,
    double sign
) {
    EACH(e, size) {
        T step = (T)sign * g[e] + (T)weight_decay * p[e];
        if (momentum != 0) {
            const T v = (T)momentum * velocity[e] + (T)share * step;
            velocity[e] = v;
            step = nesterov ? step + (T)momentum * v : v;
        }
        p[e] -= (T)lr * step;
    }
}

// c1 = 1 - β1ᵗ, c2 = 1 - β2ᵗ
extern "C" __global__ void adam(
    T* p, const T* g, T* mean, T* square, T* max_square, int size, double lr, double b1, double b2, double eps,
    double weight_decay, int decoupled, double c1, double c2, int amsgrad, double sign
) {
    EACH(e, size) {
        T q = p[e], d = (T)sign * g[e];
        if (decoupled) q *= (T)(1 - lr * weight_decay);
        else d += (T)weight_decay * q;
        const T m = (T)b1 * mean[e] + (T)(1 - b1) * d, v = (T)b2 * square[e] + (T)(1 - b2) * d * d;
        mean[e] = m;
        square[e] = v;
        T most = v;
        if (amsgrad) {
            if (!(max_square[e] <= v)) most = v != v ? v : max_square[e];    // a NaN stays
            max_square[e] = most;
        }
        p[e] = q - (T)(lr / c1) * m / (sqrt(most) / (T)sqrt(c2) + (T)eps);
    }
}

extern "C" __global__ void rmsprop(
    T* p, const T* g, T* square, T* mean, T* velocity, int size, double lr, double alpha, double eps,
    double weight_decay, double momentum, int centered, double sign
) {
    EACH(e, size) {
        const T d = (T)sign * g[e] + (T)weight_decay * p[e], s = (T)alpha * square[e] + (T)(1 - alpha) * d * d;
        square[e] = s;
        T variance = s;
        if (centered) {
            const T m = (T)alpha * mean[e] + (T)(1 - alpha) * d;
            mean[e] = m;
            variance -= m * m;
            if (variance < 0) variance = 0;    // by rounding
        }
        T step = d / (sqrt(variance) + (T)eps);
        if (momentum != 0) {
            step += (T)momentum * velocity[e];
            velocity[e] = step;
        }
        p[e] -= (T)lr * step;
    }
}

// rate = lr / (1 + (t - 1)·lr_decay); the sum of squares begins at `initial`
extern "C" __global__ void adagrad(
    T* p, const T* g, T* sum, int size, double rate, double weight_decay, double initial, double eps, double sign
) {
    EACH(e, size) {
        const T d = (T)sign * g[e] + (T)weight_decay * p[e], s = sum[e] + d * d;
        sum[e] = s;
        p[e] -= (T)rate * d / (sqrt(s + (T)initial) + (T)eps);
    }
}
