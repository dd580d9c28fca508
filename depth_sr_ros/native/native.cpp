// SPDX-License-Identifier: Apache-2.0
//
// The network's CPU kernels behind a C interface; models/native.py is the other side of it. What they compute is
// what the torch modules of models/ compute, in fewer passes over memory: a block's products are made for some
// pixels at a time, so that what lies between them never leaves the cache.
//
// Nothing here is thrown through the C interface: where memory for a scratch row cannot be had the process ends.

#include <cmath>
#include <cstdint>
#include <cstring>
#include <vector>

#ifdef _OPENMP
#include <omp.h>
#endif

#ifndef DSR_SOURCES
#define DSR_SOURCES "unknown"
#endif

namespace {

int thread_index() {
#ifdef _OPENMP
    return omp_get_thread_num();
#else
    return 0;
#endif
}

int thread_count() {
#ifdef _OPENMP
    return omp_get_num_threads();
#else
    return 1;
#endif
}

// This thread's own memory, kept from call to call.
float *scratch_memory(size_t floats) {
    static thread_local std::vector<float> memory;
    if (memory.size() < floats) memory.resize(floats);
    return memory.data();
}

// The order of the pointers in models/native.py.
struct Block {
    const float *expand, *expand_bias;        // norm1 inside
    const float *depthwise, *depthwise_bias;  // [9][2][C, padded]
    const float *attention, *attention_bias;  // [C][C]
    const float *project, *project_bias;      // beta inside
    const float *expand2, *expand2_bias;      // norm2 inside
    const float *project2, *project2_bias;    // gamma inside
};

struct Head {
    const float *cell, *cell_bias;      // gates of the pixels, shift, sharpness
    const float *logits, *logits_bias;  // [neighbour][pixel]
    float least, most;                  // of a logit
};

// Of a step of propagation.
struct Step {
    const float *logits, *logits_bias;  // [neighbour][pixel]
    const float *cell, *cell_bias;      // gates of the pixels, sharpness
    float least, most;                  // of a logit
    float share;                        // of the depth that is left
};

struct Shares {
    const float *features, *features_bias;  // to 32 hidden values
    const float *residual;                  // [9][32]
    const float *share, *share_bias;        // of the pixels
    float least;                            // share of the depth that is left
};

// DepthNormalizer's: the logarithm of metres over `shift`, or (metres - shift) / scale.
struct Unit {
    int is_log;
    float shift, scale, nearest;  // nothing is nearer than the last
};

#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__)
#define MULTIPLE_TARGETS 1
#pragma GCC push_options
#pragma GCC target("avx512f,avx512vl,avx512bw,avx512dq,avx2,fma")
#define LANES 16
#define WIDE 3
#define TALL(panels) (panels == 3 ? 8 : 12)
namespace avx512 {
#include "kernels.inc"
}
#undef LANES
#undef WIDE
#undef TALL
#pragma GCC pop_options

#pragma GCC push_options
#pragma GCC target("avx2,fma")
#define LANES 8
#define WIDE 1
#define TALL(panels) 6
namespace avx2 {
#include "kernels.inc"
}
#undef LANES
#undef WIDE
#undef TALL
#pragma GCC pop_options
#endif

#define LANES 4
#define WIDE 1
#ifdef __aarch64__
#define TALL(panels) 6
#else
#define TALL(panels) 3
#endif
namespace baseline {
#include "kernels.inc"
}

// Of functions that know pixels, for cells of 1, 2 and 4 a side.
constexpr int SIDES = 3;

struct Kernels {
    const char *name;
    decltype(&baseline::naf_block) naf_block;
    decltype(&baseline::convolve) convolve;
    decltype(&baseline::upsample) upsample;
    decltype(&baseline::fuse) fuse;
    decltype(&baseline::kernel_head<4>) kernel_head[SIDES];
    decltype(&baseline::propagate<4>) propagate[SIDES];
    decltype(&baseline::back_project<4>) back_project[SIDES];
    decltype(&baseline::cells_of_bytes<4>) cells_of_bytes[SIDES];
    decltype(&baseline::lr_cells<4>) lr_cells[SIDES];
};

#define EACH_SIDE(function) {function<1>, function<2>, function<4>}
#define TABLE(isa)                                                                                              \
    {                                                                                                           \
#isa, isa::naf_block, isa::convolve, isa::upsample, isa::fuse, EACH_SIDE(isa::kernel_head),         \
            EACH_SIDE(isa::propagate), EACH_SIDE(isa::back_project), EACH_SIDE(isa::cells_of_bytes), \
            EACH_SIDE(isa::lr_cells)                                                                 \
    }

const Kernels TABLES[] = {
#ifdef MULTIPLE_TARGETS
    TABLE(avx512),
    TABLE(avx2),
#endif
    TABLE(baseline),
};

bool is_supported(const char *name) {
#ifdef MULTIPLE_TARGETS
    if (!strcmp(name, "avx512"))
        return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl") &&
               __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq");
    if (!strcmp(name, "avx2")) return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
#endif
    return !strcmp(name, "baseline");
}

// The tables begin with the widest registers.
const Kernels *best() {
    for (const Kernels &table : TABLES)
        if (is_supported(table.name)) return &table;
    return nullptr;  // never: the baseline is always supported
}

const Kernels *chosen = best();

const Kernels &kernels() { return *chosen; }

// That of functions[SIDES] for cells of `side` pixels: 1, 2 or 4.
template <typename Function>
Function of_side(int side, const Function (&functions)[SIDES]) {
    return functions[side / 2];
}

}  // namespace

extern "C" {

// Takes the kernels of this instruction set, or of the `best`, from now on; returns 0 where the processor has it not.
int dsr_use_instruction_set(const char *name) {
    if (!strcmp(name, "best")) {
        chosen = best();
        return 1;
    }
    for (const Kernels &table : TABLES)
        if (!strcmp(table.name, name) && is_supported(name)) {
            chosen = &table;
            return 1;
        }
    return 0;
}

// Counts changes of the functions below; models/native.py asks for the one it knows.
int dsr_interface() { return 4; }

// The hash of the sources that this was built from.
const char *dsr_sources() { return DSR_SOURCES; }

const char *dsr_instruction_set() { return kernels().name; }

void dsr_naf_block(const float *const *weights, const float *x, float *out, float *gated, int height, int width,
                   int real_height, int real_width, int channels, int threads) {
    Block block;
    static_assert(sizeof block == 12 * sizeof *weights, "twelve pointers");
    memcpy(&block, weights, sizeof block);
    kernels().naf_block(block, x, out, gated, height, width, real_height, real_width, channels, threads);
}

void dsr_convolve(const float *x, int height, int width, int inputs, int kernel, const float *weights,
                  const float *bias, int outputs, const float *residual, int residual_pitch, float *out, int threads) {
    kernels().convolve(x, height, width, inputs, kernel, weights, bias, outputs, residual, residual_pitch, out, threads);
}

void dsr_upsample(const float *x, int height, int width, int inputs, const float *weights, int outputs, float *out,
                  int threads) {
    kernels().upsample(x, height, width, inputs, weights, outputs, out, threads);
}

void dsr_fuse(const float *rel, const float *lr, const float *up, float *out, int height, int width, int real_height,
              int real_width, int channels, int adaptive, int threads) {
    kernels().fuse(rel, lr, up, out, height, width, real_height, real_width, channels, adaptive, threads);
}

void dsr_kernel_head(int side, const float *const *weights, float least, float most, const float *features, const float *rgb,
                     int rgb_pitch, const float *depth, int height, int width, int channels, float correction, int is_log,
                     float shift, float scale, float nearest, float *cells, float *out, int out_height, int out_width,
                     int threads) {
    const Head head{weights[0], weights[1], weights[2], weights[3], least, most};
    of_side(side, kernels().kernel_head)(head, features, rgb, rgb_pitch, depth, height, width, channels, correction,
                                         {is_log, shift, scale, nearest}, cells, out, out_height, out_width, threads);
}

void dsr_propagate(int side, const float *const *weights, float least, float most, float share, const float *features,
                   const uint8_t *image, long plane, long row, long column, float *depth, int height, int width, int dilation,
                   int margin, int first, int w, int channels, float *memory, int threads) {
    const Step step{weights[0], weights[1], weights[2], weights[3], least, most, share};
    of_side(side, kernels().propagate)(step, features, image, plane, row, column, depth, height, width, dilation, margin,
                                       first, w, channels, memory, threads);
}

void dsr_back_project(int side, const float *const *weights, float least, const float *features, float *depth, const float *filled,
                      const float *mask, const int32_t *rows, const int32_t *columns, int lr_height, int lr_width, int height,
                      int width, int is_log, float shift, float scale, float nearest, float correction, int h, int w,
                      int channels, float *memory, int threads) {
    const Shares shares{weights[0], weights[1], weights[2], weights[3], weights[4], least};
    of_side(side, kernels().back_project)(shares, features, depth, filled, mask, rows, columns, lr_height, lr_width, height,
                                          width, {is_log, shift, scale, nearest}, correction, h, w, channels, memory,
                                          threads);
}

void dsr_cells_of_bytes(int side, const uint8_t *image, long row, long column, int height, int width, float *out, int h,
                        int w, int pitch, int threads) {
    of_side(side, kernels().cells_of_bytes)(image, row, column, height, width, out, h, w, pitch, threads);
}

void dsr_lr_cells(int side, const float *filled, const float *detail, const float *mask, const int32_t *mask_rows,
                  const int32_t *mask_columns, int lr_height, int lr_width, int height, int width, int is_log, float shift,
                  float scale, float nearest, float *out, int h, int w, int threads) {
    of_side(side, kernels().lr_cells)(filled, detail, mask, mask_rows, mask_columns, lr_height, lr_width, height, width,
                                      {is_log, shift, scale, nearest}, out, h, w, threads);
}
}
