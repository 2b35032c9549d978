/* SPDX-License-Identifier: Apache-2.0 */
/* Finds objects in a picture with a deploy file:
 *   detect_c model.st picture.ppm */
#include <sextant/sextant.h>
#include <stdio.h>
#include <stdlib.h>

enum { MAX_BOXES = 300 };

/* Reads a binary PPM: "P6 WIDTH HEIGHT 255", then the pixels. NULL when it is not one. */
static unsigned char* read_ppm(const char* path, int* width, int* height) {
  FILE* file = fopen(path, "rb");
  unsigned char* rgb = NULL;
  if (file == NULL) return NULL;
  if (fscanf(file, "P6 %d %d 255", width, height) == 2 && *width > 0 && *height > 0 &&
      fgetc(file) != EOF) {
    const size_t bytes = (size_t)3 * (size_t)*width * (size_t)*height;
    rgb = malloc(bytes);
    if (rgb != NULL && fread(rgb, 1, bytes, file) != bytes) {
      free(rgb);
      rgb = NULL;
    }
  }
  fclose(file);
  return rgb;
}

int main(int argc, char** argv) {
  static sextant_box boxes[MAX_BOXES];
  sextant_detector* detector = NULL;
  int width, height, status = 2;
  int64_t found = 0, i;
  unsigned char* rgb;
  if (argc != 3) {
    fprintf(stderr, "usage: detect_c MODEL PICTURE.ppm\n");
    return 2;
  }
  rgb = read_ppm(argv[2], &width, &height);
  if (rgb == NULL) {
    fprintf(stderr, "%s: not a binary PPM file\n", argv[2]);
    return 2;
  }
  if (sextant_open(argv[1], NULL, &detector) == SEXTANT_OK &&
      sextant_detect(detector, rgb, width, height, 0, SEXTANT_RGB, boxes, MAX_BOXES, &found) ==
          SEXTANT_OK) {
    for (i = 0; i < found; ++i)
      printf("%s %g %g %g %g %g\n", sextant_class_name(detector, boxes[i].class_id), boxes[i].score,
             boxes[i].x1, boxes[i].y1, boxes[i].x2, boxes[i].y2);
    status = 0;
  } else {
    fprintf(stderr, "%s\n", sextant_last_error());
  }
  sextant_close(detector);
  free(rgb);
  return status;
}
