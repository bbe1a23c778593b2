// Lowering and its adjoint (see im2colnet_numpy/lowering.py and im2colnet/backend/convolution.py for the formulas), and
// depthwise convolution, which needs neither.

// Copy a stretch (OW, N) of a lowered row, from an image row (W, N) or of zeros, as numbers or 16 bytes at a time
struct alignas(16) Wide { unsigned int words[4]; };
template <typename V>
static __device__ __forceinline__ void stretch(
    const V* from, V* to, bool inside, int W, int OW, int N, int stride, int first
) {
    const Index width = (Index)W * N, length = (Index)OW * N, shift = (Index)first * N;
    const V zero = {};
    if (stride == 1)
        for (Index e = threadIdx.x; e < length; e += blockDim.x) {
            const Index f = e + shift;
            to[e] = inside && f >= 0 && f < width ? from[f] : zero;
        }
    else
        for (Index e = threadIdx.x; e < length; e += blockDim.x) {
            const int s = e / N, n = e - (Index)s * N, w = s * stride + first;
            to[e] = inside && w >= 0 && w < W ? from[(Index)w * N + n] : zero;
        }
}

// L[g][q][j][c][s][n] = x[row(q)][g·C + c][s·sw + j·dw - left][n], 0 outside the image; C channels of each group.
// With `shared` lowered row q is image row q - top; else rows r·KH + i are those of output row r.
// Each row of a block's threads copies one stretch (OW, N) at a time, so that there is one division for a stretch.
extern "C" __global__ void lower(const T* x, T* L, int G, int C, int N, int rows, int shared, WINDOW) {
    const int wide = 16 / (int)sizeof(T);    // numbers
    const bool aligned = N % wide == 0 && ((size_t)x | (size_t)L) % 16 == 0;
    const Index stretches = (Index)G * rows * KW * C;
    for (Index i = (Index)blockIdx.x * blockDim.y + threadIdx.y; i < stretches; i += (Index)gridDim.x * blockDim.y) {
        Index t = i;
        const int c = t % C; t /= C;
        const int j = t % KW; t /= KW;
        const int q = t % rows, g = t / rows;
        const int h = shared ? q - top : q / KH * sh + q % KH * dh - top, first = j * dw - left;
        const bool inside = h >= 0 && h < H;
        const T* from = x + (inside ? (((Index)h * G + g) * C + c) * W * N : (Index)0);
        T* to = L + i * OW * N;
        if (aligned) stretch((const Wide*)from, (Wide*)to, inside, W, OW, N / wide, sw, first);
        else stretch(from, to, inside, W, OW, N, sw, first);
    }
}

// columns[r][c][i][j][s][n] = x[r·sh + i·dh - top][c][s·sw + j·dw - left][n], `fill` outside the image
extern "C" __global__ void im2col(const T* x, T* columns, int C, int N, double fill, WINDOW) {
    EACH(e, (Index)OH * C * KH * KW * OW * N) {
        Index t = e;
        const int n = t % N; t /= N;
        const int s = t % OW; t /= OW;
        const int j = t % KW; t /= KW;
        const int i = t % KH; t /= KH;
        const int c = t % C, r = t / C;
        const int h = r * sh + i * dh - top, w = s * sw + j * dw - left;
        columns[e] = h >= 0 && h < H && w >= 0 && w < W ? x[(((Index)h * C + c) * W + w) * N + n] : (T)(A)fill;
    }
}

// x[h][c][w][n] = the sum of all columns that were taken from there: a gather, so nothing is added to twice at once.
// Columns are either those of im2col, or (`by_tap`) columns[r][g][i][j][c][s][n] of C channels in each of G groups.
extern "C" __global__ void col2im(const T* columns, T* x, int G, int C, int N, int by_tap, WINDOW) {
    const Index tap = (Index)OW * N * (by_tap ? C : 1), channel = (Index)OW * N * (by_tap ? 1 : KH * KW);
    const Index group = (Index)KH * KW * C * OW * N;
    EACH(e, (Index)H * G * C * W * N) {
        Index t = e;
        const int n = t % N; t /= N;
        const int w = t % W; t /= W;
        const int c = t % C; t /= C;
        const int g = t % G, h = t / G;
        A sum = 0;
        for (int i = 0; i < KH; ++i) {
            const int r = output_at(h, i, top, sh, dh, OH);
            if (r < 0) continue;
            for (int j = 0; j < KW; ++j) {
                const int s = output_at(w, j, left, sw, dw, OW);
                if (s >= 0)
                    sum += (A)columns[((Index)r * G + g) * group + (i * KW + j) * tap + c * channel + (Index)s * N + n];
            }
        }
        x[e] = (T)sum;
    }
}

// The flipped weight, with which dy is convolved: flipped[c][i][j][f] = w[f][KH-1-i][KW-1-j][c], in each group
extern "C" __global__ void flip(const T* w, T* flipped, int G, int F, int C, int KH, int KW) {
    EACH(e, (Index)G * F * C * KH * KW) {
        Index t = e;
        const int f = t % F; t /= F;
        const int j = t % KW; t /= KW;
        const int i = t % KH; t /= KH;
        const int c = t % C, g = t / C;
        flipped[e] = w[((((Index)g * F + f) * KH + KH - 1 - i) * KW + KW - 1 - j) * C + c];
    }
}

// out[e] = Σ_r parts[r][e]
extern "C" __global__ void sum_rows(const A* parts, A* out, int rows, int size) {
    EACH(e, size) {
        A sum = 0;
        for (int r = 0; r < rows; ++r) sum += parts[(Index)r * size + e];
        out[e] = sum;
    }
}

// y += b, then the activation
extern "C" __global__ void add_bias(T* y, const T* b, int H, int C, int M, int bias, int kind, double k1, double k2) {
    const A of_channel = bias ? (A)b[blockIdx.x % C] : (A)0;
    T* row = y + (Index)blockIdx.x * M;
    EACH_OF_ROW(m, M) row[m] = (T)activated((A)row[m] + of_channel, kind, k1, k2);
}

// Convolution of each channel by itself with w (C, KH, KW): images x (H, C, W, N), outputs y (OH, C, OW, N). Block x has
// a row of what it writes, so that no element needs a division where the stride is 1.

// Where the window of the output at `e` of a row (OW, N) begins in a row (W, N); it is moved on by N for each column
static __device__ __forceinline__ Index window_of(Index e, int N, int stride, int before) {
    return (stride == 1 ? e : e + e / N * (stride - 1) * N) - (Index)before * N;
}

extern "C" __global__ void depthwise(
    const T* x, const T* w, const T* b, T* y, int C, int N, int bias, int kind, double k1, double k2, WINDOW
) {
    const int c = blockIdx.x % C, r = blockIdx.x / C;
    const Index width = (Index)W * N, length = (Index)OW * N;
    EACH_OF_ROW(e, length) {
        const Index first = window_of(e, N, sw, left);
        A sum = bias ? (A)b[c] : (A)0;
        for (int i = 0; i < KH; ++i) {
            const int h = r * sh + i * dh - top;
            if (h < 0 || h >= H) continue;
            const T* row = x + ((Index)h * C + c) * width;
            for (int j = 0; j < KW; ++j) {
                const Index f = first + (Index)j * dw * N;
                if (f >= 0 && f < width) sum += (A)w[(c * KH + i) * KW + j] * (A)row[f];
            }
        }
        y[(Index)blockIdx.x * length + e] = (T)activated(sum, kind, k1, k2);
    }
}

extern "C" __global__ void depthwise_input_grad(const T* dy, const T* w, T* dx, int C, int N, WINDOW) {
    const int c = blockIdx.x % C, h = blockIdx.x / C;
    const Index width = (Index)W * N, length = (Index)OW * N;
    EACH_OF_ROW(e, width) {
        const int v = sw == 1 ? 0 : e / N;
        A sum = 0;
        for (int i = 0; i < KH; ++i) {
            const int r = output_at(h, i, top, sh, dh, OH);
            if (r < 0) continue;
            const T* row = dy + ((Index)r * C + c) * length;
            for (int j = 0; j < KW; ++j) {
                Index f = e + (Index)(left - j * dw) * N;    // where the stride is 1
                if (sw != 1) {
                    const int s = output_at(v, j, left, sw, dw, OW);
                    f = s < 0 ? (Index)-1 : e + (Index)(s - v) * N;
                }
                if (f >= 0 && f < length) sum += (A)w[(c * KH + i) * KW + j] * (A)row[f];
            }
        }
        dx[(Index)blockIdx.x * width + e] = (T)sum;
    }
}

// Block (c, tap, z) adds up rows z, z + blocks, ... of a channel's outputs: partial[z][c][tap]
extern "C" __global__ void depthwise_weight_grad(const T* x, const T* dy, double* partial, int C, int N, WINDOW) {
    __shared__ double shared[THREADS];
    const int c = blockIdx.x, i = blockIdx.y / KW, j = blockIdx.y % KW;
    const Index width = (Index)W * N, length = (Index)OW * N;
    double sum = 0;
    for (int r = blockIdx.z; r < OH; r += gridDim.z) {
        const int h = r * sh + i * dh - top;
        if (h < 0 || h >= H) continue;
        const T *of_x = x + ((Index)h * C + c) * width, *of_dy = dy + ((Index)r * C + c) * length;
        #pragma unroll 4
        for (Index e = threadIdx.x; e < length; e += blockDim.x) {
            const Index f = window_of(e, N, sw, left) + (Index)j * dw * N;
            if (f >= 0 && f < width) sum += (double)of_dy[e] * (double)of_x[f];
        }
    }
    shared[threadIdx.x] = sum;
    block_sum(shared, 1);
    if (!threadIdx.x) partial[((Index)blockIdx.z * C + c) * KH * KW + blockIdx.y] = shared[0];
}
