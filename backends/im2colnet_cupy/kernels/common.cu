// What all kernels share. These types stand before it:
//     T      the arrays' element type: float, double, Float16 or Bfloat16
//     A      the type that is computed in: double for double, else float
//     U      the element type of images that are converted, or of positions
//     Index  int, or long long where an array has too many elements for it
// Images are rows (H, C, W, N). Every sum is taken in a fixed order, so results are the same every time.

// Loop over the elements of an array of n, whatever the number of threads
#define EACH(i, n) \
    for (Index i = (Index)blockIdx.x * blockDim.x + threadIdx.x; i < (n); i += (Index)gridDim.x * blockDim.x)

// The same over the n elements of a row, which is block x's; blocks y share it (cuda.py: row_grid)
#define EACH_OF_ROW(i, n) \
    for (Index i = (Index)blockIdx.y * blockDim.x + threadIdx.x; i < (n); i += (Index)gridDim.y * blockDim.x)

// Sizes of input and output, then kernel, stride, dilation, and the padding above and to the left
#define WINDOW \
    int H, int W, int OH, int OW, int KH, int KW, int sh, int sw, int dh, int dw, int top, int left
#define WINDOW_GIVEN H, W, OH, OW, KH, KW, sh, sw, dh, dw, top, left

// The place of element e of images (H, C, W, N), and the element at a place
struct Place { int h, c, w, n; };
static __device__ __forceinline__ Place place_of(Index e, int C, int W, int N) {
    const Index column = e / N, row = column / W;
    return {(int)(row / C), (int)(row % C), (int)(column % W), (int)(e % N)};
}
static __device__ __forceinline__ Index at(int h, int c, int w, int n, int C, int W, int N) {
    return (((Index)h * C + c) * W + w) * N + n;
}

// The output at which tap k meets an input position, or -1
static __device__ __forceinline__ int output_at(int position, int k, int before, int stride, int dilation, int size) {
    int t = position + before - k * dilation;
    if (t < 0) return -1;
    if (stride > 1) {    // divisions take long
        if (t % stride) return -1;
        t /= stride;
    }
    return t < size ? t : -1;
}

// Sum `count` numbers over the threads of a block, whose number is a power of two; with a `width`, a power of two, over
// the threads t, t + width, t + 2·width ..., for each t < width
#define THREADS 256     // threads of a block, at most
static __device__ __forceinline__ void block_sum(double* shared, int count, int width = 1) {
    for (int half = blockDim.x / 2; half >= width; half /= 2) {
        __syncthreads();
        if (threadIdx.x < half)
            for (int k = 0; k < count; ++k) shared[k * THREADS + threadIdx.x] += shared[k * THREADS + threadIdx.x + half];
    }
    __syncthreads();
}
