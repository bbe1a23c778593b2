// Sums over the channels of images (H, C, M), M = W·N, or of features (C, M) with H = 1.

// Block y's part of sums of channel x, in double: `add(at, sums)` adds number `at`, and the block's threads are joined
template <class Add>
static __device__ __forceinline__ void add_channel(double* shared, int H, int C, int M, int count, Add add) {
    double sums[2] = {0, 0};
    const Index first = (Index)blockIdx.y * blockDim.x + threadIdx.x, step = (Index)gridDim.y * blockDim.x;
    const Index rows = step / M, rest = step % M;    // number m of row h comes next, without a division
    #pragma unroll 4
    for (Index h = first / M, m = first % M; h < H;) {
        const Index at = (h * C + blockIdx.x) * M + m;
        h += rows;
        m += rest;
        if (m >= M) {
            m -= M;
            ++h;
        }
        add(at, sums);
    }
    for (int e = 0; e < count; ++e) shared[e * THREADS + threadIdx.x] = sums[e];
}

static __device__ __forceinline__ void write_parts(const double* shared, double* partial, int C, int count) {
    if (!threadIdx.x)
        for (int e = 0; e < count; ++e) partial[((Index)blockIdx.y * count + e) * C + blockIdx.x] = shared[e * THREADS];
}

// Write what block y adds, for each channel, to
//     kind 0:  Σx
//     kind 1:  Σ(x - k), Σ(x - k)²          k: the channel's first number, so that no large squares are subtracted
//     kind 2:  Σdy, Σdy·(x - mean)          (dy comes first)
// to partial[y][k][c].
extern "C" __global__ void channel_sums(
    const T* x, const T* second, const double* mean, double* partial, int H, int C, int M, int kind
) {
    __shared__ double shared[2 * THREADS];
    const int c = blockIdx.x, count = kind ? 2 : 1;
    const double k = kind == 1 ? (double)x[(Index)c * M] : 0;
    add_channel(shared, H, C, M, count, [=](Index at, double* sums) {
        const double v = (double)x[at] - k;
        sums[0] += v;
        if (kind == 1) sums[1] += v * v;
        if (kind == 2) sums[1] += v * ((double)second[at] - mean[c]);
    });
    block_sum(shared, count);
    write_parts(shared, partial, C, count);
}

// The same of kind 2 for dz = f'·dy, which is written too; the activation f has made y, and dz may be dy
extern "C" __global__ void slope_sums(
    const T* dy, const T* x, const double* mean, const T* y, T* dz, double* partial, int H, int C, int M, int kind,
    double k1, double k2
) {
    __shared__ double shared[2 * THREADS];
    const int c = blockIdx.x;
    add_channel(shared, H, C, M, 2, [=](Index at, double* sums) {
        const T g = (T)gradient_of((A)y[at], (A)dy[at], kind, k1, k2);
        dz[at] = g;
        sums[0] += (double)g;
        sums[1] += (double)g * ((double)x[at] - mean[c]);
    });
    block_sum(shared, 2);
    write_parts(shared, partial, C, 2);
}

// out[e] = Σ_p partial[p][e] / count, in the type of the output
extern "C" __global__ void sum_partial(const double* partial, T* out, int parts, int size, double count) {
    EACH(e, size) {
        double sum = 0;
        for (int p = 0; p < parts; ++p) sum += partial[(Index)p * size + e];
        out[e] = (T)(sum / count);
    }
}
