// Images (N, C, H, W) as rows (H, C, W, N), by way of a tile in shared memory: reads and writes both go along memory.
// Blocks of (32, 8) threads, one for each 32 samples (x) and 32 pixels (y).
#define TILE 32
extern "C" __global__ void to_rows(const U* images, T* x, int N, int C, int H, int W, double scale) {
    __shared__ T tile[TILE][TILE + 1];
    const Index pixels = (Index)C * H * W;
    for (Index first = (Index)blockIdx.y * TILE; first < pixels; first += (Index)gridDim.y * TILE) {
        const Index p = first + threadIdx.x;
        for (int k = threadIdx.y; k < TILE; k += blockDim.y) {
            const int n = blockIdx.x * TILE + k;
            if (n < N && p < pixels) tile[k][threadIdx.x] = (T)((A)images[n * pixels + p] * (A)scale);
        }
        __syncthreads();
        const int n = blockIdx.x * TILE + threadIdx.x;
        for (int k = threadIdx.y; k < TILE; k += blockDim.y) {
            const Index q = first + k;
            if (n < N && q < pixels) {
                const int w = q % W, h = q / W % H, c = q / W / H;
                x[at(h, c, w, n, C, W, N)] = tile[threadIdx.x][k];
            }
        }
        __syncthreads();
    }
}
