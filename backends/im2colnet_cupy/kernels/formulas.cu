// Elementwise functions y = f(x): rows of the table FORMULAS of im2colnet/backend/activation.py, c and d being a row's
// constants.
enum Kind {
    NONE, RELU, LEAKY_RELU, SIGMOID, TANH, SILU, ELU, SELU, CELU, SOFTSIGN, RELU6, HARDSIGMOID, HARDSWISH, LOG_SIGMOID,
    MISH, GELU, GELU_TANH, SOFTPLUS, HARDTANH, THRESHOLD, EXP, LOG, SQRT, ABS, NEG, RECIPROCAL, SQUARE, ERF, SIN, COS
};

#define SELU_ALPHA 1.6732632423543772848
#define SELU_SCALE 1.0507009873554804934

static __device__ __forceinline__ A sigmoid(A x) { return 1 / (1 + exp(-x)); }

static __device__ __forceinline__ A clamped(A x, A low, A high) { return x < low ? low : x > high ? high : x; }

// y = scale·x where x > 0, else scale·c·(exp(x / stretch) - 1), and its slope by y
static __device__ __forceinline__ A elu(A x, A c, A scale, A stretch) {
    return x > 0 || x != x ? scale * x : scale * c * expm1(x / stretch);
}
static __device__ __forceinline__ A elu_slope(A y, A c, A scale, A stretch) {
    return y > 0 ? scale : (y + scale * c) / stretch;
}

// tanh(log(1 + exp(x))) = n / (n + 2), n = w·(w + 2), w = exp(x)
static __device__ __forceinline__ A mish_factor(A x) {
    const A w = exp(x < 20 ? x : (A)20), n = w * (w + 2);
    return n / (n + 2);
}
static __device__ __forceinline__ A mish_slope(A x) {
    const A w = exp(x < 20 ? x : (A)20), n = w * (w + 2), r = 1 / (n + 2);
    return n * r + 4 * clamped(x, -800, 20) * (r * r * w * (w + 1));
}

// log(1 + exp(x)), where exp does not overflow
static __device__ __forceinline__ A softplus(A x) { return (x > 0 ? x : (A)0) + log1p(exp(-fabs(x))); }

// the normal distribution, and its density
static __device__ __forceinline__ A normal(A x) { return erfc(x * (A)-0.70710678118654752440) / 2; }
static __device__ __forceinline__ A bell(A x) { return exp(x * x * (A)-0.5) * (A)0.39894228040143267794; }

// 2·√(2/π)·(x + 0.044715·x³), whose sigmoid stands for the normal distribution, and its slope
static __device__ __forceinline__ A cubic(A x) { return (A)1.59576912160573071176 * (x + (A)0.044715 * x * x * x); }
static __device__ __forceinline__ A cubic_slope(A x) { return (A)1.59576912160573071176 * (1 + (A)0.134145 * x * x); }

static __device__ __forceinline__ A activated(A x, int kind, double c, double d) {
    switch (kind) {
        case RELU: return x > 0 || x != x ? x : (A)0;
        case LEAKY_RELU: return x > 0 ? x : (A)c * x;
        case SIGMOID: return sigmoid(x);
        case TANH: return tanh(x);
        case SILU: return x * sigmoid(x);
        case ELU: return elu(x, (A)c, 1, 1);
        case SELU: return elu(x, (A)SELU_ALPHA, (A)SELU_SCALE, 1);
        case CELU: return elu(x, (A)c, 1, (A)c);
        case SOFTSIGN: return x / (1 + fabs(x));
        case RELU6: return clamped(x, 0, 6);
        case HARDSIGMOID: return clamped(x + 3, 0, 6) / 6;
        case HARDSWISH: return x * (clamped(x + 3, 0, 6) / 6);
        case LOG_SIGMOID: return -softplus(-x);
        case MISH: return x * mish_factor(x);
        case GELU: return x * normal(x);
        case GELU_TANH: return x * sigmoid(cubic(clamped(x, -20, 20)));
        case SOFTPLUS: return x > (A)(d / c) ? x : softplus((A)c * x) / (A)c;
        case HARDTANH: return clamped(x, (A)c, (A)d);
        case THRESHOLD: return x > (A)c ? x : (A)d;
        case EXP: return exp(x);
        case LOG: return log(x);
        case SQRT: return sqrt(x);
        case ABS: return fabs(x);
        case NEG: return -x;
        case RECIPROCAL: return 1 / x;
        case SQUARE: return x * x;
        case ERF: return erf(x);
        case SIN: return sin(x);
        case COS: return cos(x);
        default: return x;
    }
}

// f'(x); `read` is y, and x for the functions whose row says so
static __device__ __forceinline__ A slope_of(A read, int kind, double c, double d) {
    const A near = clamped(read, -20, 20);
    switch (kind) {
        case RELU: return read > 0 ? (A)1 : (A)0;
        case LEAKY_RELU: return read > 0 ? (A)1 : (A)c;
        case SIGMOID: return read * (1 - read);
        case TANH: return 1 - read * read;
        case SILU: return sigmoid(read) * (1 + read * (1 - sigmoid(read)));
        case ELU: return elu_slope(read, (A)c, 1, 1);
        case SELU: return elu_slope(read, (A)SELU_ALPHA, (A)SELU_SCALE, 1);
        case CELU: return elu_slope(read, (A)c, 1, (A)c);
        case SOFTSIGN: return 1 / (1 + fabs(read)) / (1 + fabs(read));
        case RELU6: return read > 0 && read < 6 ? (A)1 : (A)0;
        case HARDSIGMOID: return read > 0 && read < 1 ? (A)1 / 6 : (A)0;
        case HARDSWISH: return read <= -3 ? (A)0 : read >= 3 ? (A)1 : read / 3 + (A)0.5;
        case LOG_SIGMOID: return -expm1(read);
        case MISH: return mish_slope(read);
        case GELU: return normal(read) + near * bell(near);
        case GELU_TANH: return sigmoid(cubic(near)) * (1 + near * sigmoid(-cubic(near)) * cubic_slope(near));
        case SOFTPLUS: return read > (A)(d / c) ? (A)1 : sigmoid((A)c * read);
        case HARDTANH: return read > (A)c && read < (A)d ? (A)1 : (A)0;
        case THRESHOLD: return read > (A)c ? (A)1 : (A)0;
        case EXP: return read;
        case LOG: return 1 / read;
        case SQRT: return (A)0.5 / read;
        case ABS: return read > 0 ? (A)1 : read < 0 ? (A)-1 : (A)0;
        case NEG: return -1;
        case RECIPROCAL: return -read * read;
        case SQUARE: return 2 * read;
        case ERF: return exp(-near * near) * (A)1.12837916709551257390;
        case SIN: return cos(read);
        case COS: return -sin(read);
        default: return 1;
    }
}

// f'(x)·dy, and 0 where the slope is 0, also if dy is infinite
static __device__ __forceinline__ A gradient_of(A read, A dy, int kind, A c, A d) {
    const A slope = slope_of(read, kind, c, d);
    return slope == 0 ? (A)0 : dy * slope;
}
