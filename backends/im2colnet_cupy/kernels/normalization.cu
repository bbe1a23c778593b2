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
    const int c = blockIdx.x % C;
    const Index row = (Index)blockIdx.x * M;
    const A a = (A)scale[c], b = two ? (A)other_scale[c] : (A)0, s = (A)shift[c];
    EACH_OF_ROW(m, M) {
        A v = (A)x[row + m] * a;
        if (two) v += (A)other[row + m] * b;
        y[row + m] = (T)activated(v + s, kind, k1, k2);
    }
}

// Normalisation of sets of numbers of one sample. The places of a sample are all axes but the batch's: place
// ((k0·O0 + o0)·K1 + k1)·O1 + o1 belongs to the set k0·K1 + k1, where it is member o0·O1 + o1. An array that has one number
// for each set, such as `mean`, is (sets, N); weight and bias have one for each place. `rest` is what was left when the mean
// was rounded.

static __device__ __forceinline__ Index place_of_member(int set, Index m, int O0, int K1, int O1) {
    return (((Index)(set / K1) * O0 + m / O1) * K1 + set % K1) * O1 + m % O1;
}
static __device__ __forceinline__ Index set_of_place(Index place, int O0, int K1, int O1) {
    return place / ((Index)O0 * K1 * O1) * K1 + place / O1 % K1;
}

// Which numbers a thread reads: of the set `group` and the sample n the members row, row + rows, ...; those of a part of the
// set alone, if several blocks share it. Samples lie side by side in memory, so `width` threads read `width` samples
struct Reader { int row, rows, group, n; };
static __device__ __forceinline__ Reader reader(int N, int width) {
    const int tiles = (N + width - 1) / width;
    return {(int)(threadIdx.x / width), (int)(blockDim.x / width), (int)(blockIdx.x / tiles),
            (int)(blockIdx.x % tiles * width + threadIdx.x % width)};
}

// Write the sums of a block's first rows to partial[blockIdx.y][0 and 1][set][n]
static __device__ __forceinline__ void write_sums(const double* shared, double* partial, Reader of, int sets, int N) {
    if (of.row || of.n >= N) return;
    for (int k = 0; k < 2; ++k)
        partial[(((Index)blockIdx.y * 2 + k) * sets + of.group) * N + of.n] = shared[k * THREADS + threadIdx.x];
}

static __device__ __forceinline__ A normed(A x, Index s, const A* inverse, const A* mean, const A* rest, int centred) {
    return (centred ? x - mean[s] - rest[s] : x) * inverse[s];
}

// Block y's part of two sums of each set: Σ(x - k) and Σ(x - k)², k being the set's first number, or 0 if there is no mean
extern "C" __global__ void set_sums(
    const T* x, double* partial, int sets, int O0, int K1, int O1, int N, int width, int centred
) {
    __shared__ double shared[2 * THREADS];
    const Reader of = reader(N, width);
    double sum = 0, square = 0;
    if (of.n < N) {
        const double k = centred ? (double)x[place_of_member(of.group, 0, O0, K1, O1) * N + of.n] : 0;
        for (Index m = (Index)blockIdx.y * of.rows + of.row; m < (Index)O0 * O1; m += gridDim.y * of.rows) {
            const double v = (double)x[place_of_member(of.group, m, O0, K1, O1) * N + of.n] - k;
            sum += v;
            square += v * v;
        }
    }
    shared[threadIdx.x] = sum;
    shared[THREADS + threadIdx.x] = square;
    block_sum(shared, 2, width);
    write_sums(shared, partial, of, sets, N);
}

// From the sums of all blocks make 1 / √(var + eps), and the mean as `mean` + `rest`
extern "C" __global__ void set_statistics(
    const double* partial, const T* x, A* inverse, A* mean, A* rest, int parts, int sets, int O0, int K1, int O1, int N,
    double eps, int centred
) {
    EACH(s, (Index)sets * N) {
        double sum = 0, square = 0;
        for (int p = 0; p < parts; ++p) {
            sum += partial[(Index)p * 2 * sets * N + s];
            square += partial[((Index)p * 2 + 1) * sets * N + s];
        }
        const double count = (double)O0 * O1, about = sum / count;
        double var = square / count;
        if (centred) {
            const double average = about + (double)x[place_of_member(s / N, 0, O0, K1, O1) * N + s % N];
            mean[s] = (A)average;
            rest[s] = (A)(average - (double)mean[s]);
            var -= about * about;
            if (var < 0) var = 0;    // by rounding
        }
        inverse[s] = (A)(1 / sqrt(var + eps));
    }
}

// y = (x - mean) · inverse · weight + bias
extern "C" __global__ void set_norm(
    const T* x, const A* inverse, const A* mean, const A* rest, const A* weight, const A* bias, T* y, int sets, int O0,
    int K1, int O1, int N, int centred, int weighted, int shifted
) {
    EACH(e, (Index)sets * O0 * O1 * N) {
        const Index place = e / N, s = set_of_place(place, O0, K1, O1) * N + e % N;
        A v = normed((A)x[e], s, inverse, mean, rest, centred);
        if (weighted) v *= weight[place];
        if (shifted) v += bias[place];
        y[e] = (T)v;
    }
}

// Block y's part of two sums of each set: Σg and Σg·n, where n = (x - mean) · inverse and g = dy · weight
extern "C" __global__ void set_grad_sums(
    const T* x, const T* dy, const A* inverse, const A* mean, const A* rest, const A* weight, double* partial, int sets,
    int O0, int K1, int O1, int N, int width, int centred, int weighted
) {
    __shared__ double shared[2 * THREADS];
    const Reader of = reader(N, width);
    double sum = 0, product = 0;
    if (of.n < N)
        for (Index m = (Index)blockIdx.y * of.rows + of.row; m < (Index)O0 * O1; m += gridDim.y * of.rows) {
            const Index place = place_of_member(of.group, m, O0, K1, O1), e = place * N + of.n;
            const A g = weighted ? (A)dy[e] * weight[place] : (A)dy[e];
            sum += (double)g;
            product += (double)g * (double)normed((A)x[e], (Index)of.group * N + of.n, inverse, mean, rest, centred);
        }
    shared[threadIdx.x] = sum;
    shared[THREADS + threadIdx.x] = product;
    block_sum(shared, 2, width);
    write_sums(shared, partial, of, sets, N);
}

// dx = (g - mean(g) - n · mean(g·n)) · inverse; means = [mean(g), mean(g·n)] of each set
extern "C" __global__ void set_norm_grad(
    const T* x, const T* dy, const A* inverse, const A* mean, const A* rest, const A* weight, const A* means, T* dx,
    int sets, int O0, int K1, int O1, int N, int centred, int weighted
) {
    EACH(e, (Index)sets * O0 * O1 * N) {
        const Index place = e / N, s = set_of_place(place, O0, K1, O1) * N + e % N;
        A v = weighted ? (A)dy[e] * weight[place] : (A)dy[e];
        v -= normed((A)x[e], s, inverse, mean, rest, centred) * means[(Index)sets * N + s];
        if (centred) v -= means[s];
        dx[e] = (T)(v * inverse[s]);
    }
}

// out = [Σdy, Σdy·n] over the batch, for each place
extern "C" __global__ void set_place_sums(
    const T* x, const T* dy, const A* inverse, const A* mean, const A* rest, double* out, int sets, int O0, int K1, int O1,
    int N, int width, int centred
) {
    __shared__ double shared[2 * THREADS];
    const int lane = threadIdx.x % width, row = threadIdx.x / width, rows = blockDim.x / width;
    const Index places = (Index)sets * O0 * O1, first = (Index)blockIdx.x * rows, place = first + row;
    double sum = 0, product = 0;
    if (place < places)
        for (int n = lane; n < N; n += width) {
            const Index e = place * N + n, s = set_of_place(place, O0, K1, O1) * N + n;
            sum += (double)(A)dy[e];
            product += (double)(A)dy[e] * (double)normed((A)x[e], s, inverse, mean, rest, centred);
        }
    shared[lane * rows + row] = sum;    // a place's numbers are `rows` apart
    shared[THREADS + lane * rows + row] = product;
    block_sum(shared, 2, rows);
    if (threadIdx.x < rows && first + threadIdx.x < places)
        for (int k = 0; k < 2; ++k) out[k * places + first + threadIdx.x] = shared[k * THREADS + threadIdx.x];
}
