/* SPDX-License-Identifier: Apache-2.0 */
/* Sextant's C interface: load a deploy file, give pixels, get boxes.
 *
 *   sextant_detector* detector;
 *   if (sextant_open("model.st", NULL, &detector) != SEXTANT_OK) puts(sextant_last_error());
 *   sextant_box boxes[300];
 *   int64_t found;
 *   sextant_detect(detector, pixels, width, height, 0, SEXTANT_RGB, boxes, 300, &found);
 *   sextant_close(detector);
 *
 * No function prints, ends the program or lets a C++ exception out. Several detectors, of the same or
 * of different files, can be open at once, and all functions may be called from several threads; calls
 * on one detector wait for each other. Functions that can fail return SEXTANT_OK or SEXTANT_ERROR;
 * after SEXTANT_ERROR, sextant_last_error() says why and nothing has been written to the outputs. */
#ifndef SEXTANT_SEXTANT_H
#define SEXTANT_SEXTANT_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Raised when a function or struct changes in a way that an existing program would notice. It is the
 * number in the library's name, libsextant.so.1. */
#define SEXTANT_ABI_VERSION 1

enum { SEXTANT_OK = 0, SEXTANT_ERROR = 1 };

/* 8-bit pixels, interleaved, rows from the top. */
typedef enum sextant_pixels {
  SEXTANT_RGB = 0,
  SEXTANT_BGR = 1,
  SEXTANT_RGBA = 2, /* the alpha channel is ignored */
  SEXTANT_BGRA = 3,
  SEXTANT_GREY = 4
} sextant_pixels;

typedef struct sextant_image {
  const void* pixels;
  int32_t width; /* in pixels, 1 to 32768 */
  int32_t height;
  int64_t stride; /* bytes from one row to the next; 0 where rows follow each other without a gap */
  int32_t format; /* of sextant_pixels */
} sextant_image;

/* A box in pixels of the image, clipped to it: 0 <= x1 <= x2 <= width. */
typedef struct sextant_box {
  float x1, y1, x2, y2;
  float score;      /* 0 to 1 */
  int32_t class_id; /* from 0; sextant_class_name() */
} sextant_box;

/* Fill it by sextant_default_options(), then change what should differ. */
typedef struct sextant_options {
  size_t size;        /* of this struct, as the program was compiled */
  const char* device; /* "auto" (a CUDA device where there is one), "cpu" or "cuda" */
  const char*
      precision;      /* "auto" (int8 for a quantized file, else fp32), fp32, fp16, int8, integer */
  int32_t image_size; /* side of the square that the network sees; 0: as trained */
  int32_t threads;    /* of the CPU, for one call; 0: all */
  int32_t max_boxes;  /* of an image */
  int32_t multi_label; /* not 0: every class of a box above min_score, not only its best */
  float min_score;     /* 0 to 1 */
  float max_iou;       /* of two boxes of a class, 0 to 1: above it the lesser one is dropped */
} sextant_options;

typedef struct sextant_detector sextant_detector;

/* SEXTANT_ABI_VERSION of the library that is loaded. */
int32_t sextant_abi_version(void);
/* Of the release, "0.1.0". */
const char* sextant_version(void);
/* The message of this thread's last error, one line that names the file, option or argument; "" when
 * there was none. Valid until the thread's next call. */
const char* sextant_last_error(void);

/* device "auto", precision "auto", image_size 0, threads 0, max_boxes 300, multi_label 0,
 * min_score 0.4, max_iou 0.45. `size` is sizeof(sextant_options). */
void sextant_default_options(sextant_options* options, size_t size);

/* Reads a deploy file, which `sextant export` and `sextant quantize` write, and builds its engine.
 * `options` may be NULL for the defaults; it and its strings are not kept. Fails when the file is not
 * a deploy file or damaged, for options out of range and for a device that cannot be used. */
int sextant_open(const char* path, const sextant_options* options, sextant_detector** detector);
/* NULL is allowed. */
void sextant_close(sextant_detector* detector);

int32_t sextant_class_count(const sextant_detector* detector);
/* Valid as long as the detector; NULL for a class that the model does not have. */
const char* sextant_class_name(const sextant_detector* detector, int32_t class_id);
/* Side of the square that the network sees. */
int32_t sextant_image_size(const sextant_detector* detector);
/* "cpu", or the name of the GPU. Valid as long as the detector. */
const char* sextant_device_name(const sextant_detector* detector);
/* "fp32", "fp16", "int8" or "integer". */
const char* sextant_precision(const sextant_detector* detector);

/* Finds objects in one image. Writes the `capacity` best boxes at most, best first, and their number
 * to *found. */
int sextant_detect(sextant_detector* detector, const void* pixels, int32_t width, int32_t height,
                   int64_t stride, int32_t format, sextant_box* boxes, int64_t capacity,
                   int64_t* found);
/* The same for `count` images of any sizes and formats: the boxes of image i are written from
 * boxes[i * capacity] on, their number to found[i]. */
int sextant_detect_batch(sextant_detector* detector, const sextant_image* images, int64_t count,
                         sextant_box* boxes, int64_t capacity, int64_t* found);

#ifdef __cplusplus
}
#endif

#endif
