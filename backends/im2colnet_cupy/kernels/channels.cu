// Maps and sums over the channels of images (H, C, M), M = W·N, or of features (C, M) with H = 1.

// y = x·scale + other·other_scale + shift, then ReLU if asked for; y may be x
extern "C" __global__ void affine(
    const T* x, const double* scale, const double* shift, const T* other, const double* other_scale, T* y, int H, int C,
    int M, int two, int relu
) {
    EACH(e, (Index)H * C * M) {
        const int c = e / M % C;
        A v = (A)x[e] * (A)scale[c];
        if (two) v += (A)other[e] * (A)other_scale[c];
        y[e] = (T)rectified(v + (A)shift[c], relu);
    }
}

// y += b, then ReLU if asked for
extern "C" __global__ void add_bias(T* y, const T* b, int H, int C, int M, int bias, int relu) {
    EACH(e, (Index)H * C * M) y[e] = (T)rectified((A)y[e] + (bias ? (A)b[e / M % C] : (A)0), relu);
}

// dx = dy where y > 0, else 0; dx may be dy
extern "C" __global__ void relu_grad(const T* y, const T* dy, T* dx, int H, int C, int M) {
    EACH(e, (Index)H * C * M) dx[e] = (A)y[e] > 0 ? dy[e] : (T)0;
}

// Of each channel, the part of block y in
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
    for (Index i = (Index)blockIdx.y * blockDim.x + threadIdx.x; i < (Index)H * M; i += (Index)gridDim.y * blockDim.x) {
        const Index at = (i / M * C + c) * M + i % M;
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

// of such parts of kind 1 out = [Σx, Σ(x - Σx/n)²], n = H·M
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

// out[e] = Σ_p partial[p][e], in the type of the output
extern "C" __global__ void sum_partial(const double* partial, T* out, int parts, int size) {
    EACH(e, size) {
        double sum = 0;
        for (int p = 0; p < parts; ++p) sum += partial[(Index)p * size + e];
        out[e] = (T)sum;
    }
}
