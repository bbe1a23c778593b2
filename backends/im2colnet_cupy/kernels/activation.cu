// Elementwise functions of all numbers of an array, and their gradients.

// y = f(x); y may be x
extern "C" __global__ void activation(const T* x, T* y, int size, int kind, double c, double d) {
    EACH(e, size) y[e] = (T)activated((A)x[e], kind, c, d);
}

// dx = f'(x)·dy, and 0 where the slope is 0, also if dy is infinite; dx may be dy
extern "C" __global__ void activation_grad(const T* read, const T* dy, T* dx, int size, int kind, double c, double d) {
    EACH(e, size) {
        const A slope = slope_of((A)read[e], kind, c, d);
        dx[e] = slope == 0 ? (T)(A)0 : (T)((A)dy[e] * slope);
    }
}
