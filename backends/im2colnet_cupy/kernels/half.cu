// Numbers of 16 bits: stored as these, computed with as float.

#ifdef __CUDA_ARCH__
static __device__ __forceinline__ unsigned short half_bits(float value) {
    unsigned short bits;
    asm("cvt.rn.f16.f32 %0, %1;" : "=h"(bits) : "f"(value));
    return bits;
}
static __device__ __forceinline__ float half_value(unsigned short bits) {
    float value;
    asm("cvt.f32.f16 %0, %1;" : "=f"(value) : "h"(bits));
    return value;
}
#endif

struct Float16 {
    unsigned short bits;
    Float16() = default;
    explicit __device__ Float16(float value) : bits(half_bits(value)) {}
    __device__ operator float() const { return half_value(bits); }
};

// The upper half of a float, rounded to nearest, ties to even
struct Bfloat16 {
    unsigned short bits;
    Bfloat16() = default;
    explicit __device__ Bfloat16(float value) {
        const unsigned int all = __float_as_uint(value);
        bits = (value != value ? all | 0x400000 : all + 0x7fff + (all >> 16 & 1)) >> 16;
    }
    __device__ operator float() const { return __uint_as_float((unsigned int)bits << 16); }
};
