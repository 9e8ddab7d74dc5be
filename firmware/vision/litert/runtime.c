#include "runtime.h"

#include <dlfcn.h>
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "api.h"

struct lrt_library {
#define DECLARE(name, result, parameters) result(*name) parameters;
  LITERT_FUNCTIONS(DECLARE)
#undef DECLARE
};

struct lrt_model {
  lrt_library *lib;
  void *content;
  LiteRtHandle environment, model, options, compiled;
  int inputs, outputs;
  lrt_tensor input[LRT_MAX_TENSORS], output[LRT_MAX_TENSORS];
  LiteRtHandle input_buffer[LRT_MAX_TENSORS], output_buffer[LRT_MAX_TENSORS];
};

static void fail(lrt_error *err, const char *step, int status) {
  err->step = step;
  err->status = status;
}

lrt_library *lrt_load(const char *path, lrt_error *err) {
  // RTLD_LOCAL keeps the library's own C++ and XNNPACK symbols to itself.
  void *handle = dlopen(path, RTLD_NOW | RTLD_LOCAL);
  if (handle == NULL) {
    fail(err, "dlopen", 0);
    snprintf(err->text, sizeof err->text, "%s", dlerror());
    return NULL;
  }
  lrt_library *lib = calloc(1, sizeof *lib);
  if (lib == NULL) {
    fail(err, "out of memory", 0);
    return NULL;
  }
#define FIND(name, result, parameters)                                             \
  *(void **)(&lib->name) = dlsym(handle, #name);                                   \
  if (lib->name == NULL) {                                                         \
    fail(err, "dlsym", 0);                                                         \
    snprintf(err->text, sizeof err->text, "it does not have the function " #name); \
    free(lib);                                                                     \
    dlclose(handle);                                                               \
    return NULL;                                                                   \
  }
  LITERT_FUNCTIONS(FIND)
#undef FIND
  return lib;
}

// TRY runs one call of LiteRT; when it fails, the function it stands in
// returns -1 and err names the call.
#define TRY(call)                         \
  do {                                    \
    LiteRtStatus status_ = m->lib->call;  \
    if (status_ != 0) {                   \
      fail(err, #call, status_);          \
      return -1;                          \
    }                                     \
  } while (0)

static int describe(lrt_model *m, LiteRtHandle tensor, lrt_tensor *t, LiteRtRankedTensorType *type,
                    lrt_error *err) {
  const char *name = NULL;
  TRY(LiteRtGetTensorName(tensor, &name));
  snprintf(t->name, sizeof t->name, "%s", name == NULL ? "" : name);
  TRY(LiteRtGetRankedTensorType(tensor, type));
  t->type = type->element_type;
  int32_t quantization = 0;
  TRY(LiteRtGetQuantizationTypeId(tensor, &quantization));
  if (quantization == kQuantizationPerTensor) {
    LiteRtQuantizationPerTensor q = {0};
    TRY(LiteRtGetPerTensorQuantization(tensor, &q));
    t->scale = q.scale;
    t->zero_point = q.zero_point;
  }
  return 0;
}

static int set_shape(lrt_tensor *t, const LiteRtLayout *layout, lrt_error *err) {
  if (layout->rank > kMaxRank) {
    fail(err, "a tensor has too many dimensions", 0);
    return -1;
  }
  t->rank = layout->rank;
  for (int d = 0; d < t->rank; d++) {
    if (layout->dimensions[d] < 1) {
      fail(err, "a tensor has a dimension of unknown size", 0);
      return -1;
    }
    t->dims[d] = layout->dimensions[d];
  }
  return 0;
}

static int add_buffer(lrt_model *m, LiteRtRankedTensorType *type, const LiteRtLayout *layout,
                      LiteRtHandle requirements, lrt_tensor *t, LiteRtHandle *buffer,
                      lrt_error *err) {
  type->layout = *layout;
  TRY(LiteRtCreateManagedTensorBufferFromRequirements(m->environment, type, requirements, buffer));
  TRY(LiteRtGetTensorBufferPackedSize(*buffer, &t->bytes));
  return 0;
}

static int add_input(lrt_model *m, LiteRtHandle signature, int i, LiteRtRankedTensorType *type,
                     lrt_error *err) {
  LiteRtHandle tensor = NULL;
  TRY(LiteRtGetSignatureInputTensorByIndex(signature, i, &tensor));
  if (describe(m, tensor, &m->input[i], type, err) != 0) return -1;

  // A model that Keras exports takes a batch of any size (-1). Without fixing
  // it, creating the buffers fails.
  int dims[kMaxRank];
  bool open = false;
  if (type->layout.rank > kMaxRank) {
    fail(err, "a tensor has too many dimensions", 0);
    return -1;
  }
  for (unsigned d = 0; d < type->layout.rank; d++) {
    dims[d] = type->layout.dimensions[d];
    if (dims[d] < 1) {
      dims[d] = 1;
      open = true;
    }
  }
  if (open) TRY(LiteRtCompiledModelResizeInputTensor(m->compiled, 0, i, dims, type->layout.rank));
  return 0;
}

static int add_tensors(lrt_model *m, lrt_error *err) {
  LiteRtHandle signature = NULL;
  size_t inputs = 0, outputs = 0;
  TRY(LiteRtGetModelSignature(m->model, 0, &signature));
  TRY(LiteRtGetNumSignatureInputs(signature, &inputs));
  TRY(LiteRtGetNumSignatureOutputs(signature, &outputs));
  if (inputs > LRT_MAX_TENSORS || outputs > LRT_MAX_TENSORS) {
    fail(err, "the model has too many inputs or outputs", 0);
    return -1;
  }

  LiteRtRankedTensorType input_type[LRT_MAX_TENSORS], output_type[LRT_MAX_TENSORS];
  for (size_t i = 0; i < inputs; i++)
    if (add_input(m, signature, i, &input_type[i], err) != 0) return -1;
  for (size_t i = 0; i < outputs; i++) {
    LiteRtHandle tensor = NULL;
    TRY(LiteRtGetSignatureOutputTensorByIndex(signature, i, &tensor));
    if (describe(m, tensor, &m->output[i], &output_type[i], err) != 0) return -1;
  }

  // The inputs have their sizes now; the outputs follow from them.
  LiteRtHandle requirements = NULL;
  LiteRtLayout layouts[LRT_MAX_TENSORS];
  TRY(LiteRtGetCompiledModelOutputTensorLayouts(m->compiled, 0, outputs, layouts, true));
  for (size_t i = 0; i < outputs; i++) {
    if (set_shape(&m->output[i], &layouts[i], err) != 0) return -1;
    TRY(LiteRtGetCompiledModelOutputBufferRequirements(m->compiled, 0, i, &requirements));
    if (add_buffer(m, &output_type[i], &layouts[i], requirements, &m->output[i],
                   &m->output_buffer[i], err) != 0)
      return -1;
    m->outputs++;
  }
  for (size_t i = 0; i < inputs; i++) {
    LiteRtLayout layout;
    TRY(LiteRtGetCompiledModelInputTensorLayout(m->compiled, 0, i, &layout));
    if (set_shape(&m->input[i], &layout, err) != 0) return -1;
    TRY(LiteRtGetCompiledModelInputBufferRequirements(m->compiled, 0, i, &requirements));
    if (add_buffer(m, &input_type[i], &layout, requirements, &m->input[i], &m->input_buffer[i],
                   err) != 0)
      return -1;
    m->inputs++;
  }
  return 0;
}

static int set_threads(lrt_model *m, int threads, lrt_error *err) {
  // The options of the XNNPACK delegate are handed over as text (TOML).
  char *text = malloc(64);
  if (text == NULL) {
    fail(err, "out of memory", 0);
    return -1;
  }
  snprintf(text, 64, "num_threads = %d\n", threads);
  LiteRtHandle xnnpack = NULL;
  LiteRtStatus status = m->lib->LiteRtCreateOpaqueOptions("xnnpack", text, free, &xnnpack);
  if (status != 0) {
    free(text);
    fail(err, "LiteRtCreateOpaqueOptions", status);
    return -1;
  }
  status = m->lib->LiteRtAddOpaqueOptions(m->options, xnnpack);
  if (status != 0) {
    m->lib->LiteRtDestroyOpaqueOptions(xnnpack);
    fail(err, "LiteRtAddOpaqueOptions", status);
    return -1;
  }
  return 0;
}

static int open_model(lrt_model *m, size_t size, int threads, lrt_error *err) {
  const LiteRtEnvOption quiet = {
      .tag = kEnvOptionMinLoggerSeverity,
      .value = {.type = kAnyTypeInt, .int_value = kLogSeverityError},
  };
  TRY(LiteRtCreateEnvironment(1, &quiet, &m->environment));
  TRY(LiteRtCreateModelFromBuffer(m->environment, m->content, size, &m->model));
  TRY(LiteRtCreateOptions(&m->options));
  TRY(LiteRtSetOptionsHardwareAccelerators(m->options, kHwAcceleratorCpu));
  if (set_threads(m, threads, err) != 0) return -1;
  TRY(LiteRtCreateCompiledModel(m->environment, m->model, m->options, &m->compiled));
  return add_tensors(m, err);
}

// keep_complaint puts the last line that LiteRT wrote into err.
static void keep_complaint(char *log, size_t size, lrt_error *err) {
  while (size > 0 && log[size - 1] == '\n') log[--size] = '\0';
  const char *last = strrchr(log, '\n');
  last = last == NULL ? log : last + 1;
  const char *mark = "ERROR: ";
  if (strncmp(last, mark, strlen(mark)) == 0) last += strlen(mark);
  snprintf(err->text, sizeof err->text, "%s", last);
}

void *lrt_content(size_t size) {
  void *memory = NULL;
  return posix_memalign(&memory, 64, size) == 0 ? memory : NULL;
}

lrt_model *lrt_open(lrt_library *lib, void *content, size_t size, int threads, lrt_error *err) {
  lrt_model *m = calloc(1, sizeof *m);
  if (m == NULL) {
    free(content);
    fail(err, "out of memory", 0);
    return NULL;
  }
  m->lib = lib;
  m->content = content;

  // LiteRT has no way to turn off that it announces its delegate, and writes
  // there what would make a good error message. stderr is a variable in glibc
  // ("you can set these variables", manual, 12.2); Go does not use it.
  char *log = NULL;
  size_t log_size = 0;
  FILE *before = stderr, *memory = open_memstream(&log, &log_size);
  if (memory != NULL) stderr = memory;
  bool ok = open_model(m, size, threads, err) == 0;
  if (!ok) {
    lrt_close(m);
    m = NULL;
  }
  stderr = before;
  if (memory != NULL) {
    fclose(memory);
    if (!ok && err->status != 0) keep_complaint(log, log_size, err);
    free(log);
  }
  return m;
}

int lrt_inputs(const lrt_model *m) { return m->inputs; }
int lrt_outputs(const lrt_model *m) { return m->outputs; }
const lrt_tensor *lrt_input(const lrt_model *m, int i) { return &m->input[i]; }
const lrt_tensor *lrt_output(const lrt_model *m, int i) { return &m->output[i]; }

int lrt_write(lrt_model *m, int input, const void *data, lrt_error *err) {
  void *memory = NULL;
  TRY(LiteRtLockTensorBuffer(m->input_buffer[input], &memory, kTensorBufferLockWrite));
  memcpy(memory, data, m->input[input].bytes);
  TRY(LiteRtUnlockTensorBuffer(m->input_buffer[input]));
  return 0;
}

int lrt_run(lrt_model *m, lrt_error *err) {
  TRY(LiteRtRunCompiledModel(m->compiled, 0, m->inputs, m->input_buffer, m->outputs,
                             m->output_buffer));
  return 0;
}

int lrt_read(lrt_model *m, int output, void *data, lrt_error *err) {
  void *memory = NULL;
  TRY(LiteRtLockTensorBuffer(m->output_buffer[output], &memory, kTensorBufferLockRead));
  memcpy(data, memory, m->output[output].bytes);
  TRY(LiteRtUnlockTensorBuffer(m->output_buffer[output]));
  return 0;
}

void lrt_close(lrt_model *m) {
  for (int i = 0; i < LRT_MAX_TENSORS; i++) {
    if (m->input_buffer[i] != NULL) m->lib->LiteRtDestroyTensorBuffer(m->input_buffer[i]);
    if (m->output_buffer[i] != NULL) m->lib->LiteRtDestroyTensorBuffer(m->output_buffer[i]);
  }
  if (m->compiled != NULL) m->lib->LiteRtDestroyCompiledModel(m->compiled);
  if (m->options != NULL) m->lib->LiteRtDestroyOptions(m->options);
  if (m->model != NULL) m->lib->LiteRtDestroyModel(m->model);
  if (m->environment != NULL) m->lib->LiteRtDestroyEnvironment(m->environment);
  free(m->content);
  free(m);
  malloc_trim(0);  // a model takes megabytes, which glibc would keep for itself
}
