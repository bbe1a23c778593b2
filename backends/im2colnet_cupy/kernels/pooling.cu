// Pooling of images x (H, C, W, N) to y (OH, C, OW, N); the gradients are gathers.

static __device__ __forceinline__ bool same(T a, T b) { return a == b || (a != a && b != b); }

extern "C" __global__ void max_pool(const T* x, T* y, int C, int N, WINDOW) {
    EACH(e, (Index)OH * C * OW * N) {
        Index t = e;
        const int n = t % N; t /= N;
        const int s = t % OW; t /= OW;
        const int c = t % C, r = t / C;
        T best = -1 / (T)0;
        for (int i = 0; i < KH; ++i) {
            const int h = r * sh + i * dh - top;
            if (h < 0 || h >= H) continue;
            for (int j = 0; j < KW; ++j) {
                const int w = s * sw + j * dw - left;
                if (w < 0 || w >= W) continue;
                const T v = x[(((Index)h * C + c) * W + w) * N + n];
                if (best == best && !(v <= best)) best = v;    // a NaN stays
            }
        }
        y[e] = best;
    }
}

// dy goes to the first maximum of each window, in row-major order
extern "C" __global__ void max_pool_grad(const T* x, const T* y, const T* dy, T* dx, int C, int N, WINDOW) {
    EACH(e, (Index)H * C * W * N) {
        Index t = e;
        const int n = t % N; t /= N;
        const int w = t % W; t /= W;
        const int c = t % C, h = t / C;
        const T v = x[e];
        T sum = 0;
        for (int i = 0; i < KH; ++i) {
            const int r = output_at(h, i, top, sh, dh, OH);
            if (r < 0) continue;
            for (int j = 0; j < KW; ++j) {
                const int s = output_at(w, j, left, sw, dw, OW);
                if (s < 0) continue;
                const Index at = (((Index)r * C + c) * OW + s) * N + n;
                bool first = same(v, y[at]);
                for (int tap = 0; first && tap < i * KW + j; ++tap) {
                    const int hh = h + (tap / KW - i) * dh, ww = w + (tap % KW - j) * dw;
                    if (hh >= 0 && hh < H && ww >= 0 && ww < W)
                        first = !same(x[(((Index)hh * C + c) * W + ww) * N + n], v);
                }
                if (first) sum += dy[at];
            }
        }
        dx[e] = sum;
    }
}

// How many inputs a window averages along one axis, the padding's too if they count; nothing beyond the padding does
static __device__ __forceinline__ int counted(int o, int k, int stride, int before, int after, int size, int padding) {
    int n = 0;
    for (int a = 0; a < k; ++a) {
        const int p = o * stride + a - before;
        n += padding ? p < size + after : p >= 0 && p < size;
    }
    return n;
}

extern "C" __global__ void avg_pool(const T* x, T* y, int C, int N, int bottom, int right, int padding, WINDOW) {
    EACH(e, (Index)OH * C * OW * N) {
        Index t = e;
        const int n = t % N; t /= N;
        const int s = t % OW; t /= OW;
        const int c = t % C, r = t / C;
        T sum = 0;
        for (int i = 0; i < KH; ++i) {
            const int h = r * sh + i - top;
            if (h < 0 || h >= H) continue;
            for (int j = 0; j < KW; ++j) {
                const int w = s * sw + j - left;
                if (w >= 0 && w < W) sum += x[(((Index)h * C + c) * W + w) * N + n];
            }
        }
        const T share = (T)1 / (counted(r, KH, sh, top, bottom, H, padding) * counted(s, KW, sw, left, right, W, padding));
        y[e] = sum * share;
    }
}

extern "C" __global__ void avg_pool_grad(const T* dy, T* dx, int C, int N, int bottom, int right, int padding, WINDOW) {
    EACH(e, (Index)H * C * W * N) {
        Index t = e;
        const int n = t % N; t /= N;
        const int w = t % W; t /= W;
        const int c = t % C, h = t / C;
        T sum = 0;
        for (int i = 0; i < KH; ++i) {
            const int r = output_at(h, i, top, sh, 1, OH);
            if (r < 0) continue;
            for (int j = 0; j < KW; ++j) {
                const int s = output_at(w, j, left, sw, 1, OW);
                if (s < 0) continue;
                const int count = counted(r, KH, sh, top, bottom, H, padding) * counted(s, KW, sw, left, right, W, padding);
                sum += dy[(((Index)r * C + c) * OW + s) * N + n] * ((T)1 / count);
            }
        }
        dx[e] = sum;
    }
}
