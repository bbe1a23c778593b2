// One pass over all parameters p, gradients g and the optimiser's state (see im2colnet/optim for the formulas).

extern "C" __global__ void sgd(
    T* p, const T* g, T* velocity, int size, double lr, double momentum, double weight_decay, int nesterov
) {
    EACH(e, size) {
        T step = g[e] + (T)weight_decay * p[e];
        if (momentum != 0) {
            const T v = (T)momentum * velocity[e] + step;
            velocity[e] = v;
            step = nesterov ? step + (T)momentum * v : v;
        }
        p[e] -= (T)lr * step;
    }
}

// c1 = 1 - β1ᵗ, c2 = 1 - β2ᵗ
extern "C" __global__ void adam(
    T* p, const T* g, T* mean, T* square, int size, double lr, double b1, double b2, double eps, double weight_decay,
    int decoupled, double c1, double c2
) {
    EACH(e, size) {
        T q = p[e], d = g[e];
        if (decoupled) q *= (T)(1 - lr * weight_decay);
        else d += (T)weight_decay * q;
        const T m = (T)b1 * mean[e] + (T)(1 - b1) * d, v = (T)b2 * square[e] + (T)(1 - b2) * d * d;
        mean[e] = m;
        square[e] = v;
        p[e] = q - (T)(lr / c1) * m / (sqrt(v) / (T)sqrt(c2) + (T)eps);
    }
}
