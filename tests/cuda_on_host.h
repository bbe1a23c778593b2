// The part of CUDA that the kernels use, for a C++ compiler: blocks and threads run one after the other. A kernel with
// barriers runs each thread of a block on a stack of its own, and a barrier hands over to the next.
#pragma once
#include <ucontext.h>

#include <cmath>
#include <cstddef>
#include <functional>
#include <memory>
#include <vector>

#define __global__
#define __device__
#define __forceinline__ inline
#define __shared__ static    // one block at a time
using std::exp;
using std::log;
using std::sqrt;
using std::tanh;

struct Dim { int x, y, z; };
static Dim threadIdx, blockIdx, blockDim, gridDim;

static inline unsigned short half_bits(float value) { return __builtin_bit_cast(unsigned short, (_Float16)value); }
static inline float half_value(unsigned short bits) { return __builtin_bit_cast(_Float16, bits); }
static inline unsigned int __float_as_uint(float value) { return __builtin_bit_cast(unsigned int, value); }
static inline float __uint_as_float(unsigned int bits) { return __builtin_bit_cast(float, bits); }

namespace host {
constexpr size_t STACK = 1 << 16;
struct Thread {
    ucontext_t context;
    std::unique_ptr<char[]> stack{new char[STACK]};
    Dim index;
    bool done;
};
static std::vector<Thread> threads;
static size_t current;
static ucontext_t scheduler;
static std::function<void()> body;

static void enter() {
    body();
    threads[current].done = true;
    swapcontext(&threads[current].context, &scheduler);
}

static void each(Dim size, Dim& index, const std::function<void()>& act) {
    for (index.z = 0; index.z < size.z; ++index.z)
        for (index.y = 0; index.y < size.y; ++index.y)
            for (index.x = 0; index.x < size.x; ++index.x) act();
}

static void run_block() {
    threads.resize((size_t)blockDim.x * blockDim.y * blockDim.z);
    size_t started = 0;
    Dim index;
    each(blockDim, index, [&] {
        Thread& thread = threads[started++];
        thread.index = index;
        thread.done = false;
        getcontext(&thread.context);
        thread.context.uc_stack = {thread.stack.get(), 0, STACK};
        thread.context.uc_stack.ss_sp = thread.stack.get();
        thread.context.uc_stack.ss_size = STACK;
        makecontext(&thread.context, enter, 0);
    });
    for (bool left = true; left;) {
        left = false;
        for (current = 0; current < threads.size(); ++current)
            if (!threads[current].done) {
                threadIdx = threads[current].index;
                swapcontext(&scheduler, &threads[current].context);
                left |= !threads[current].done;
            }
    }
}

// launched: the sizes of the grid, then those of a block
static void run(const int* launched, bool barriers, const std::function<void()>& kernel) {
    gridDim = {launched[0], launched[1], launched[2]};
    blockDim = {launched[3], launched[4], launched[5]};
    body = kernel;
    each(gridDim, blockIdx, [&] { barriers ? run_block() : each(blockDim, threadIdx, body); });
}
}  // namespace host

static inline void __syncthreads() {
    using namespace host;
    swapcontext(&threads[current].context, &scheduler);
    threadIdx = threads[current].index;
}
