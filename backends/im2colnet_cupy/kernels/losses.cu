// Softmax and cross-entropy of logits (classes, N): out = [scale · Σ loss, right predictions]; where asked for,
// dlogits = scale · (softmax - onehot). One block, so that one sum is all: there are few logits beside everything else.
extern "C" __global__ void cross_entropy(
    const T* logits, const long long* labels, double* out, T* dlogits, int classes, int N, double scale, int gradient
) {
    __shared__ double shared[2 * THREADS];
    double loss = 0, right = 0;
    for (int n = threadIdx.x; n < N; n += blockDim.x) {
        const int label = (int)labels[n];
        int best = 0;
        A most = (A)logits[n];
        for (int k = 1; k < classes; ++k) {
            const A v = (A)logits[(Index)k * N + n];
            if (most == most && !(v <= most)) { most = v; best = k; }    // the first of several; a NaN stays
        }
        A total = 0;
        for (int k = 0; k < classes; ++k) total += exp((A)logits[(Index)k * N + n] - most);
        loss += (double)log(total) - (double)((A)logits[(Index)label * N + n] - most);
        right += best == label;
        if (gradient)
            for (int k = 0; k < classes; ++k)
                dlogits[(Index)k * N + n] =
                    (T)((exp((A)logits[(Index)k * N + n] - most) / total - (k == label ? (A)1 : (A)0)) * (A)scale);
    }
    shared[threadIdx.x] = loss;
    shared[THREADS + threadIdx.x] = right;
    block_sum(shared, 2);
    if (!threadIdx.x) {
        out[0] = scale * shared[0];
        out[1] = shared[THREADS];
    }
}
