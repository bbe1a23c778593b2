// Elementwise functions y = f(x): the table FORMULAS of im2colnet/backend/activation.py, c being a row's constant.
enum Kind { NONE, RELU, LEAKY_RELU, SIGMOID, TANH, SILU };

static __device__ __forceinline__ A sigmoid(A x) { return 1 / (1 + exp(-x)); }

static __device__ __forceinline__ A activated(A x, int kind, double c) {
    switch (kind) {
        case RELU: return x > 0 || x != x ? x : (A)0;
        case LEAKY_RELU: return x > 0 ? x : (A)c * x;
        case SIGMOID: return sigmoid(x);
        case TANH: return tanh(x);
        case SILU: return x * sigmoid(x);
        default: return x;
    }
}

// f'(x); `read` is y, and x for SiLU
static __device__ __forceinline__ A slope_of(A read, int kind, double c) {
    switch (kind) {
        case RELU: return read > 0 ? (A)1 : (A)0;
        case LEAKY_RELU: return read > 0 ? (A)1 : (A)c;
        case SIGMOID: return read * (1 - read);
        case TANH: return 1 - read * read;
        case SILU: return sigmoid(read) * (1 + read * (1 - sigmoid(read)));
        default: return 1;
    }
}
