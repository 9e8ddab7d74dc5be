// A small C face on LiteRT (TensorFlow Lite's runtime): open a model, look at
// its tensors, run it, close it. Only what package litert needs.
#ifndef TUXWATCH_LITERT_RUNTIME_H
#define TUXWATCH_LITERT_RUNTIME_H

#include <stddef.h>
#include <stdint.h>

#define LRT_MAX_RANK 8
#define LRT_MAX_TENSORS 16

// An error is a step that failed, LiteRT's status for it (0 when the failure
// is not LiteRT's) and, where there is one, a text: what LiteRT wrote of it.
typedef struct {
  const char *step;
  int status;
  char text[256];
} lrt_error;

typedef struct {
  char name[128];
  int type;  // LiteRtElementType: 1 float32, 3 uint8, 9 int8, ...
  int rank;
  int32_t dims[LRT_MAX_RANK];
  float scale;  // 0 when the tensor is not quantised
  int64_t zero_point;
  size_t bytes;  // size of the data, packed
} lrt_tensor;

typedef struct lrt_library lrt_library;
typedef struct lrt_model lrt_model;

// lrt_load loads the library and finds its functions. Libraries are never
// unloaded. Returns NULL and fills err on failure.
lrt_library *lrt_load(const char *path, lrt_error *err);

// lrt_content allocates memory for the content of a .tflite file, NULL if there
// is none; lrt_open takes it over.
void *lrt_content(size_t size);

// lrt_open compiles a model for the processor, to run with so many threads. The
// content is freed with the model, or here when it fails. Dimensions that the
// model leaves open (its batch) are set to 1.
//
// The file is read rather than mapped for two reasons: LiteRT checks the
// structure of a model in memory, but not of one in a file, and crashes on some
// truncated files; and a file that is overwritten in place would change under
// the running model.
//
// What LiteRT writes to the standard error stream meanwhile goes into err
// instead, so only one thread at a time may call it.
lrt_model *lrt_open(lrt_library *lib, void *content, size_t size, int threads,
                    lrt_error *err);

int lrt_inputs(const lrt_model *m);
int lrt_outputs(const lrt_model *m);
const lrt_tensor *lrt_input(const lrt_model *m, int i);
const lrt_tensor *lrt_output(const lrt_model *m, int i);

// lrt_write and lrt_read copy a whole tensor (its `bytes`) in and out.
// They return 0, or -1 with err filled, as lrt_run does.
int lrt_write(lrt_model *m, int input, const void *data, lrt_error *err);
int lrt_run(lrt_model *m, lrt_error *err);
int lrt_read(lrt_model *m, int output, void *data, lrt_error *err);

void lrt_close(lrt_model *m);

#endif
