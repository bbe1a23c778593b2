// Pooling of images x (H, C, W, N) to y (OH, C, OW, N); the gradients are gathers.

static __device__ __forceinline__ bool same(A a, A b) { return a == b || (a != a && b != b); }

// The maximum of each window, and where `save` its position: the tap of the first maximum, or of the last NaN
extern "C" __global__ void max_pool(const T* x, T* y, U* positions, int save, int C, int N, WINDOW) {
    EACH(e, (Index)OH * C * OW * N) {
        const auto [r, c, s, n] = place_of(e, C, OW, N);
        A best = -1 / (A)0;
        int position = -1;
        for (int i = 0; i < KH; ++i) {
            const int h = r * sh + i * dh - top;
            if (h < 0 || h >= H) continue;
            for (int j = 0; j < KW; ++j) {
                const int w = s * sw + j * dw - left;
                if (w < 0 || w >= W) continue;
                const A v = (A)x[at(h, c, w, n, C, W, N)];
                if (v > best || v != v || position < 0) position = i * KW + j;
                if (best == best && !(v <= best)) best = v;    // a NaN stays
            }
        }
        y[e] = (T)best;
        if (save) positions[e] = (U)(position < 0 ? 0 : position);    // a window that sees padding alone names no pixel
    }
}

// dy goes to the first maximum of each window, in row-major order, or to the last NaN
extern "C" __global__ void max_pool_grad(const T* x, const T* y, const T* dy, T* dx, int C, int N, WINDOW) {
    EACH(e, (Index)H * C * W * N) {
        const auto [h, c, w, n] = place_of(e, C, W, N);
        const A v = (A)x[e];
        A sum = 0;
        for (int i = 0; i < KH; ++i) {
            const int r = output_at(h, i, top, sh, dh, OH);
            if (r < 0) continue;
            for (int j = 0; j < KW; ++j) {
                const int s = output_at(w, j, left, sw, dw, OW);
                if (s < 0) continue;
                const Index y_at = at(r, c, s, n, C, OW, N);
                bool first = same(v, (A)y[y_at]);
                const int mine = i * KW + j, end = v != v ? KH * KW : mine;
                for (int tap = v != v ? mine + 1 : 0; first && tap < end; ++tap) {
                    const int hh = h + (tap / KW - i) * dh, ww = w + (tap % KW - j) * dw;
                    if (hh >= 0 && hh < H && ww >= 0 && ww < W)
                        first = !same((A)x[at(hh, c, ww, n, C, W, N)], v);
                }
                if (first) sum += (A)dy[y_at];
            }
        }
        dx[e] = (T)sum;
    }
}

// The same by the positions that max_pool has saved
extern "C" __global__ void max_pool_grad_at(const U* positions, const T* dy, T* dx, int C, int N, WINDOW) {
    EACH(e, (Index)H * C * W * N) {
        const auto [h, c, w, n] = place_of(e, C, W, N);
        A sum = 0;
        for (int i = 0; i < KH; ++i) {
            const int r = output_at(h, i, top, sh, dh, OH);
            if (r < 0) continue;
            for (int j = 0; j < KW; ++j) {
                const int s = output_at(w, j, left, sw, dw, OW);
                if (s < 0) continue;
                const Index y_at = at(r, c, s, n, C, OW, N);
                if ((int)positions[y_at] == i * KW + j) sum += (A)dy[y_at];
            }
        }
        dx[e] = (T)sum;
    }
}

// How many inputs a window averages along one axis, the padding's too if they count; nothing beyond the padding does
static __device__ __forceinline__ int counted(
    int o, int k, int stride, int dilation, int before, int after, int size, int padding) {
    int n = 0;
    for (int a = 0; a < k; ++a) {
        const int p = o * stride + a * dilation - before;
        n += padding ? p < size + after : p >= 0 && p < size;
    }
    return n;
}

// The factor of output (r, s): one by the divisor, or, if that is 0, by the inputs that are averaged, at least 1
static __device__ __forceinline__ A share_of(int r, int s, int bottom, int right, int padding, int divisor, WINDOW) {
    if (!divisor) {
        divisor = counted(r, KH, sh, dh, top, bottom, H, padding) * counted(s, KW, sw, dw, left, right, W, padding);
        if (!divisor) divisor = 1;
    }
    return (A)1 / divisor;
}

extern "C" __global__ void avg_pool(
    const T* x, T* y, int C, int N, int bottom, int right, int padding, int divisor, WINDOW) {
    EACH(e, (Index)OH * C * OW * N) {
        const auto [r, c, s, n] = place_of(e, C, OW, N);
        A sum = 0;
        for (int i = 0; i < KH; ++i) {
            const int h = r * sh + i * dh - top;
            if (h < 0 || h >= H) continue;
            for (int j = 0; j < KW; ++j) {
                const int w = s * sw + j * dw - left;
                if (w >= 0 && w < W) sum += (A)x[at(h, c, w, n, C, W, N)];
            }
        }
        y[e] = (T)(sum * share_of(r, s, bottom, right, padding, divisor, WINDOW_GIVEN));
    }
}

extern "C" __global__ void avg_pool_grad(
    const T* dy, T* dx, int C, int N, int bottom, int right, int padding, int divisor, WINDOW) {
    EACH(e, (Index)H * C * W * N) {
        const auto [h, c, w, n] = place_of(e, C, W, N);
        A sum = 0;
        for (int i = 0; i < KH; ++i) {
            const int r = output_at(h, i, top, sh, dh, OH);
            if (r < 0) continue;
            for (int j = 0; j < KW; ++j) {
                const int s = output_at(w, j, left, sw, dw, OW);
                if (s < 0) continue;
                const A share = share_of(r, s, bottom, right, padding, divisor, WINDOW_GIVEN);
                sum += (A)dy[at(r, c, s, n, C, OW, N)] * share;
            }
        }
        dx[e] = (T)sum;
    }
}
