// Sums over the channels of images (H, C, M), M = W·N, or of features (C, M) with H = 1.

// Write what block y adds, for each channel, to
//     kind 0:  Σx
//     kind 1:  Σ(x - k), Σ(x - k)²          k: the channel's first number, so that no large squares are subtracted
//     kind 2:  Σdy, Σdy·(x - mean)          (dy comes first)
// to partial[y][k][c]; accumulated in double.
extern "C" __global__ void channel_sums(
    const T* x, const T* second, const double* mean, double* partial, int H, int C, int M, int kind
) {
    __shared__ double shared[2 * THREADS];
    const int c = blockIdx.x, count = kind ? 2 : 1;
    const double k = kind == 1 ? (double)x[(Index)c * M] : 0;
    double sums[2] = {0, 0};
    const Index first = (Index)blockIdx.y * blockDim.x + threadIdx.x, step = (Index)gridDim.y * blockDim.x;
    const Index rows = step / M, rest = step % M;    // number m of row h comes next, without a division
    #pragma unroll 4
    for (Index h = first / M, m = first % M; h < H;) {
        const Index at = (h * C + c) * M + m;
        h += rows;
        m += rest;
        if (m >= M) {
            m -= M;
            ++h;
        }
        const double v = (double)x[at] - k;
        sums[0] += v;
        if (kind == 1) sums[1] += v * v;
        if (kind == 2) sums[1] += v * ((double)second[at] - mean[c]);
    }
    for (int e = 0; e < count; ++e) shared[e * THREADS + threadIdx.x] = sums[e];
    block_sum(shared, count);
    if (!threadIdx.x)
        for (int e = 0; e < count; ++e) partial[((Index)blockIdx.y * count + e) * C + c] = shared[e * THREADS];
}

// out[e] = Σ_p partial[p][e] / count, in the type of the output
extern "C" __global__ void sum_partial(const double* partial, T* out, int parts, int size, double count) {
    EACH(e, size) {
        double sum = 0;
        for (int p = 0; p < parts; ++p) sum += partial[(Index)p * size + e];
        out[e] = (T)(sum / count);
    }
}
