// Convolution of each channel by itself with w (C, KH, KW): images x (H, C, W, N), outputs y (OH, C, OW, N).

extern "C" __global__ void depthwise(
    const T* x, const T* w, const T* b, T* y, int C, int N, int bias, int relu, WINDOW
) {
    EACH(e, (Index)OH * C * OW * N) {
        const auto [r, c, s, n] = place_of(e, C, OW, N);
        A sum = bias ? (A)b[c] : (A)0;
        for (int i = 0; i < KH; ++i) {
            const int h = r * sh + i * dh - top;
            if (h < 0 || h >= H) continue;
            for (int j = 0; j < KW; ++j) {
                const int v = s * sw + j * dw - left;
                if (v >= 0 && v < W) sum += (A)w[(c * KH + i) * KW + j] * (A)x[at(h, c, v, n, C, W, N)];
            }
        }
        y[e] = (T)rectified(sum, relu);
    }
}

extern "C" __global__ void depthwise_input_grad(const T* dy, const T* w, T* dx, int C, int N, WINDOW) {
    EACH(e, (Index)H * C * W * N) {
        const auto [h, c, v, n] = place_of(e, C, W, N);
        A sum = 0;
        for (int i = 0; i < KH; ++i) {
            const int r = output_at(h, i, top, sh, dh, OH);
            if (r < 0) continue;
            for (int j = 0; j < KW; ++j) {
                const int s = output_at(v, j, left, sw, dw, OW);
                if (s >= 0) sum += (A)w[(c * KH + i) * KW + j] * (A)dy[at(r, c, s, n, C, OW, N)];
            }
        }
        dx[e] = (T)sum;
    }
}

// A block for each channel (x) and tap (y)
extern "C" __global__ void depthwise_weight_grad(const T* x, const T* dy, A* grad, int C, int N, WINDOW) {
    __shared__ double shared[THREADS];
    const int c = blockIdx.x, i = blockIdx.y / KW, j = blockIdx.y % KW;
    double sum = 0;
    for (Index e = threadIdx.x; e < (Index)OH * OW * N; e += blockDim.x) {
        const int n = e % N, s = e / N % OW, r = e / N / OW;
        const int h = r * sh + i * dh - top, v = s * sw + j * dw - left;
        if (h >= 0 && h < H && v >= 0 && v < W)
            sum += (double)dy[at(r, c, s, n, C, OW, N)] * (double)x[at(h, c, v, n, C, W, N)];
    }
    shared[threadIdx.x] = sum;
    block_sum(shared, 1);
    if (!threadIdx.x) grad[(c * KH + i) * KW + j] = (A)shared[0];
}
