/* Batch normalisation while training (Ioffe and Szegedy 2015, algorithms 1 and 2), forward and backward.

   Tensors are channels-last: numbers of one position lie side by side, one for each channel. torch goes through them
   position by position, which leaves most of a vector register empty where channels are few, and after pruning they are
   few and odd. Here a row is as many whole positions as fill registers; what belongs to channels is repeated along it.

   Sums are kept in float for FLUSH rows, then added to double, for each thread on its own, and over the threads in
   their order: the same number of threads gives the same bits. */

#include <math.h>
#include <omp.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#ifdef BF16
typedef uint16_t number;

static inline float widen(number value) {
    uint32_t bits = (uint32_t)value << 16;
    float wide;
    memcpy(&wide, &bits, 4);
    return wide;
}

static inline number narrow(float value) {
    uint32_t bits;
    memcpy(&bits, &value, 4);
    return value != value ? 0x7fc0 : (bits + 0x7fff + (bits >> 16 & 1)) >> 16;  /* to the nearest, ties to even */
}
#else
typedef float number;

static inline float widen(number value) { return value; }
static inline number narrow(float value) { return value; }
#endif

#define FLUSH 256
#define FEW 32
#define LANES 16
#define ROW 512
#define INLINE static inline __attribute__((always_inline))

/* Numbers in a row: a multiple of the channels and, where that is not long, of a register's lanes. */
static int64_t row_of(int64_t channels) {
    if (channels >= ROW / 2) return channels;
    int64_t row = channels;
    while (row % LANES) row += channels;
    return row * ((ROW + row - 1) / row);
}

static float *along_row(const float *of_channels, int64_t channels, int64_t row) {
    float *repeated = malloc(row * sizeof(float));
    for (int64_t j = 0; repeated && j < row; j++) repeated[j] = of_channels[j % channels];
    return repeated;
}

/* Adds up along a row: forward x - center and its square; backward the gradient and its product with x - center. The
   gradient is g, or g + h where there are `two`; where it is masked, only where `mask` is positive, and then kept. */
INLINE void add_row(const number *restrict x, const number *restrict g, const number *restrict h,
                    const number *restrict mask, const float *restrict center, number *restrict kept,
                    float *restrict first, float *restrict second, int64_t size, int is_backward, int is_masked,
                    int is_two) {
#pragma omp simd
    for (int64_t j = 0; j < size; j++) {
        float centered = widen(x[j]) - center[j];
        float value = is_backward ? widen(g[j]) : centered;
        if (is_two) value += widen(h[j]);
        if (is_masked) {
            value = widen(mask[j]) > 0 ? value : 0;
            kept[j] = narrow(value);
        }
        first[j] += value;
        second[j] += value * centered;
    }
}

INLINE int add_up(const number *x, const number *g, const number *h, const number *mask, const float *center,
                  number *kept, double *totals, int64_t size, int64_t channels, int threads, int is_backward,
                  int is_masked, int is_two) {
    int64_t row = row_of(channels), rows = (size + row - 1) / row;
    double *sums = calloc((size_t)threads * 2 * row, sizeof(double));
    float *centers = along_row(center, channels, row);
    if (!sums || !centers) { free(sums); free(centers); return 1; }
#pragma omp parallel num_threads(threads) if (threads > 1)
    {
        float first[row], second[row];
        int64_t thread = omp_get_thread_num(), count = omp_get_num_threads();
        int64_t end = rows * (thread + 1) / count;
        double *own = sums + thread * 2 * row;
        for (int64_t i = rows * thread / count; i < end;) {
            memset(first, 0, sizeof first);
            memset(second, 0, sizeof second);
            for (int64_t stop = i + FLUSH < end ? i + FLUSH : end; i < stop; i++) {
                int64_t at = i * row, length = size - at;
                if (length > row) length = row;
                add_row(x + at, is_backward ? g + at : x, is_two ? h + at : x, is_masked ? mask + at : x, centers,
                        is_masked ? kept + at : NULL, first, second, length, is_backward, is_masked, is_two);
            }
            for (int64_t j = 0; j < row; j++) { own[j] += first[j]; own[row + j] += second[j]; }
        }
    }
    memset(totals, 0, 2 * channels * sizeof(double));
    for (int64_t thread = 0; thread < threads; thread++)
        for (int64_t j = 0; j < 2 * row; j++)
            totals[j / row * channels + j % row % channels] += sums[thread * 2 * row + j];
    free(sums);
    free(centers);
    return 0;
}

/* What makes y = x * slope + offset of x: (x - mean) / sqrt(variance + epsilon) * weight + bias.

   Running statistics may be NULL. `mean` and `inverse` (of the deviation) are kept for the backward pass. Returns 0, or
   1 if there is no memory. */
int statistics(const number *x, const float *weight, const float *bias, float *running_mean, float *running_var,
               double momentum, double epsilon, float *mean, float *inverse, float *slope, float *offset, int64_t size,
               int64_t channels, int threads) {
    int64_t positions = size / channels;
    double *totals = malloc(2 * channels * sizeof(double));
    if (!totals) return 1;
    /* Around the mean of a few numbers, squares do not cancel (Chan et al. 1983, "shifted data"). */
    memset(mean, 0, channels * sizeof(float));
    for (int64_t k = 0; k < FEW; k++)
        for (int64_t c = 0; c < channels; c++) mean[c] += widen(x[positions * k / FEW * channels + c]) / FEW;
    int failed = add_up(x, NULL, NULL, NULL, mean, NULL, totals, size, channels, threads, 0, 0, 0);
    for (int64_t c = 0; !failed && c < channels; c++) {
        double shift = totals[c] / positions, center = mean[c] + shift;
        double variance = totals[channels + c] / positions - shift * shift;
        if (variance < 0) variance = 0;  /* by rounding; NaN stays NaN */
        mean[c] = center;
        inverse[c] = 1 / sqrt(variance + epsilon);
        slope[c] = inverse[c] * weight[c];
        offset[c] = bias[c] - center * slope[c];
        if (running_mean) running_mean[c] += momentum * (center - running_mean[c]);
        if (running_var) running_var[c] += momentum * (variance * positions / (positions - 1) - running_var[c]);
    }
    free(totals);
    return failed;
}

INLINE int normalize_all(const number *x, const number *added, const float *slope, const float *offset, number *y,
                         int64_t size, int64_t channels, int threads, int is_sum, int is_relu) {
    int64_t row = row_of(channels);
    float *slopes = along_row(slope, channels, row), *offsets = along_row(offset, channels, row);
    int failed = !slopes || !offsets;
    if (!failed) {
#pragma omp parallel for num_threads(threads) if (threads > 1)
        for (int64_t at = 0; at < size; at += row) {
            int64_t length = size - at < row ? size - at : row;
#pragma omp simd
            for (int64_t j = 0; j < length; j++) {
                float value = widen(x[at + j]) * slopes[j] + offsets[j];
                if (is_sum) value += widen(added[at + j]);
                if (is_relu) value = value < 0 ? 0 : value;  /* NaN stays NaN */
                y[at + j] = narrow(value);
            }
        }
    }
    free(slopes);
    free(offsets);
    return failed;
}

/* y = x * slope + offset, + added where that is not NULL; of that the ReLU where `is_relu`. Returns as above. */
int normalize(const number *x, const number *added, const float *slope, const float *offset, number *y, int is_relu,
              int64_t size, int64_t channels, int threads) {
    if (added && is_relu) return normalize_all(x, added, slope, offset, y, size, channels, threads, 1, 1);
    if (added) return normalize_all(x, added, slope, offset, y, size, channels, threads, 1, 0);
    if (is_relu) return normalize_all(x, NULL, slope, offset, y, size, channels, threads, 0, 1);
    return normalize_all(x, NULL, slope, offset, y, size, channels, threads, 0, 0);
}

/* The gradients of x, weight and bias, from that of y.

   With `mask`, which is what a ReLU made of y, or of a sum with y in it: from the gradient of that, g, or g + h where
   there is an h. Then `kept` becomes the gradient of the sum; it may be `dx`, where that is not wanted. Returns as
   above. */
int backward(const number *x, const number *g, const number *h, const number *mask, const float *weight,
             const float *mean, const float *inverse, number *dx, number *kept, float *dweight, float *dbias,
             int64_t size, int64_t channels, int threads) {
    int64_t positions = size / channels, row = row_of(channels);
    double *totals = malloc(2 * channels * sizeof(double));
    float *factors = malloc(3 * channels * sizeof(float));
    int failed = !totals || !factors;
    if (failed) {
    } else if (mask && h)
        failed = add_up(x, g, h, mask, mean, kept, totals, size, channels, threads, 1, 1, 1);
    else if (mask)
        failed = add_up(x, g, NULL, mask, mean, kept, totals, size, channels, threads, 1, 1, 0);
    else
        failed = add_up(x, g, NULL, NULL, mean, NULL, totals, size, channels, threads, 1, 0, 0);
    for (int64_t c = 0; !failed && c < channels; c++) {
        double slope = (double)weight[c] * inverse[c];
        double of_x = -slope * inverse[c] * inverse[c] * totals[channels + c] / positions;
        dbias[c] = totals[c];
        dweight[c] = totals[channels + c] * inverse[c];
        factors[c] = slope;
        factors[channels + c] = of_x;
        factors[2 * channels + c] = -slope * totals[c] / positions - of_x * mean[c];
    }
    float *of_g = failed ? NULL : along_row(factors, channels, row);
    float *of_x = failed ? NULL : along_row(factors + channels, channels, row);
    float *offset = failed ? NULL : along_row(factors + 2 * channels, channels, row);
    failed = !of_g || !of_x || !offset;
    if (!failed) {
        const number *gradient = mask ? kept : g;
#pragma omp parallel for num_threads(threads) if (threads > 1)
        for (int64_t at = 0; at < size; at += row) {
            int64_t length = size - at < row ? size - at : row;
#pragma omp simd
            for (int64_t j = 0; j < length; j++)
                dx[at + j] = narrow(widen(gradient[at + j]) * of_g[j] + widen(x[at + j]) * of_x[j] + offset[j]);
        }
    }
    free(totals); free(factors); free(of_g); free(of_x); free(offset);
    return failed;
}
