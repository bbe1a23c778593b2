// Elementwise functions of all numbers of an array, and their gradients.

// y = f(x); y may be x
extern "C" __global__ void activation(const T* x, T* y, int size, int kind, double c, double d) {
    EACH(e, size) y[e] = (T)activated((A)x[e], kind, c, d);
}

// dx = f'(x)·dy; dx may be dy
extern "C" __global__ void activation_grad(const T* read, const T* dy, T* dx, int size, int kind, double c, double d) {
    EACH(e, size) dx[e] = (T)gradient_of((A)read[e], (A)dy[e], kind, c, d);
}
