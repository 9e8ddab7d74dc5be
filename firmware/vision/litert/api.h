// The part of the LiteRT C API that is used here, declared by hand: the Python
// wheel that the library comes in has no headers.
//
// Source: LiteRT 2.3.0, litert/c/litert_{environment,model,options,
// opaque_options,compiled_model,tensor_buffer,layout,any,common}.h. Types that
// those headers mark as ABI stable keep their layout (asserted below); the
// functions do change between releases (LiteRtCreateModelFrom… take an
// environment from 2.1.6 on), which is why scripts/fetch-litert pins one file
// and a test compares outputs with golden ones.
#ifndef TUXWATCH_LITERT_API_H
#define TUXWATCH_LITERT_API_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef int LiteRtStatus;  // 0 is success
typedef void *LiteRtHandle;  // every LiteRT object is an opaque pointer

typedef struct {
  int32_t type;  // 2: integer
  union {
    int64_t int_value;
    const void *ptr_value;
  };
} LiteRtAny;

typedef struct {
  int32_t tag;
  LiteRtAny value;
} LiteRtEnvOption;

enum {
  kAnyTypeInt = 2,
  kEnvOptionMinLoggerSeverity = 25,
  kLogSeverityError = 3,
  kHwAcceleratorCpu = 1,
  kQuantizationPerTensor = 1,
  kTensorBufferLockRead = 0,
  kTensorBufferLockWrite = 1,
  kMaxRank = 8,
};

typedef struct {
  unsigned int rank : 7;
  bool has_strides : 1;
  int32_t dimensions[kMaxRank];
  uint32_t strides[kMaxRank];
} LiteRtLayout;

typedef struct {
  int32_t element_type;
  LiteRtLayout layout;
} LiteRtRankedTensorType;

typedef struct {
  float scale;
  int64_t zero_point;
} LiteRtQuantizationPerTensor;

_Static_assert(sizeof(LiteRtAny) == 16, "LiteRtAny");
_Static_assert(sizeof(LiteRtEnvOption) == 24, "LiteRtEnvOption");
_Static_assert(sizeof(LiteRtLayout) == 68, "LiteRtLayout");
_Static_assert(sizeof(LiteRtRankedTensorType) == 72, "LiteRtRankedTensorType");

// X(name, result, parameters): the functions, found by name with dlsym.
#define LITERT_FUNCTIONS(X)                                                                     \
  X(LiteRtCreateEnvironment, LiteRtStatus, (int, const LiteRtEnvOption *, LiteRtHandle *))      \
  X(LiteRtDestroyEnvironment, void, (LiteRtHandle))                                             \
  X(LiteRtCreateModelFromBuffer, LiteRtStatus,                                                  \
    (LiteRtHandle, const void *, size_t, LiteRtHandle *))                                       \
  X(LiteRtDestroyModel, void, (LiteRtHandle))                                                   \
  X(LiteRtGetModelSignature, LiteRtStatus, (LiteRtHandle, size_t, LiteRtHandle *))              \
  X(LiteRtGetNumSignatureInputs, LiteRtStatus, (LiteRtHandle, size_t *))                        \
  X(LiteRtGetNumSignatureOutputs, LiteRtStatus, (LiteRtHandle, size_t *))                       \
  X(LiteRtGetSignatureInputTensorByIndex, LiteRtStatus, (LiteRtHandle, size_t, LiteRtHandle *)) \
  X(LiteRtGetSignatureOutputTensorByIndex, LiteRtStatus, (LiteRtHandle, size_t, LiteRtHandle *))\
  X(LiteRtGetTensorName, LiteRtStatus, (LiteRtHandle, const char **))                           \
  X(LiteRtGetRankedTensorType, LiteRtStatus, (LiteRtHandle, LiteRtRankedTensorType *))          \
  X(LiteRtGetQuantizationTypeId, LiteRtStatus, (LiteRtHandle, int32_t *))                       \
  X(LiteRtGetPerTensorQuantization, LiteRtStatus, (LiteRtHandle, LiteRtQuantizationPerTensor *))\
  X(LiteRtCreateOptions, LiteRtStatus, (LiteRtHandle *))                                        \
  X(LiteRtDestroyOptions, void, (LiteRtHandle))                                                 \
  X(LiteRtSetOptionsHardwareAccelerators, LiteRtStatus, (LiteRtHandle, int))                    \
  X(LiteRtCreateOpaqueOptions, LiteRtStatus,                                                    \
    (const char *, void *, void (*)(void *), LiteRtHandle *))                                   \
  X(LiteRtDestroyOpaqueOptions, void, (LiteRtHandle))                                           \
  X(LiteRtAddOpaqueOptions, LiteRtStatus, (LiteRtHandle, LiteRtHandle))                         \
  X(LiteRtCreateCompiledModel, LiteRtStatus,                                                    \
    (LiteRtHandle, LiteRtHandle, LiteRtHandle, LiteRtHandle *))                                 \
  X(LiteRtDestroyCompiledModel, void, (LiteRtHandle))                                           \
  X(LiteRtCompiledModelResizeInputTensor, LiteRtStatus,                                         \
    (LiteRtHandle, size_t, size_t, const int *, size_t))                                        \
  X(LiteRtGetCompiledModelInputTensorLayout, LiteRtStatus,                                      \
    (LiteRtHandle, size_t, size_t, LiteRtLayout *))                                             \
  X(LiteRtGetCompiledModelOutputTensorLayouts, LiteRtStatus,                                    \
    (LiteRtHandle, size_t, size_t, LiteRtLayout *, bool))                                       \
  X(LiteRtGetCompiledModelInputBufferRequirements, LiteRtStatus,                                \
    (LiteRtHandle, size_t, size_t, LiteRtHandle *))                                             \
  X(LiteRtGetCompiledModelOutputBufferRequirements, LiteRtStatus,                               \
    (LiteRtHandle, size_t, size_t, LiteRtHandle *))                                             \
  X(LiteRtCreateManagedTensorBufferFromRequirements, LiteRtStatus,                              \
    (LiteRtHandle, const LiteRtRankedTensorType *, LiteRtHandle, LiteRtHandle *))               \
  X(LiteRtDestroyTensorBuffer, void, (LiteRtHandle))                                            \
  X(LiteRtGetTensorBufferPackedSize, LiteRtStatus, (LiteRtHandle, size_t *))                    \
  X(LiteRtLockTensorBuffer, LiteRtStatus, (LiteRtHandle, void **, int))                         \
  X(LiteRtUnlockTensorBuffer, LiteRtStatus, (LiteRtHandle))                                     \
  X(LiteRtRunCompiledModel, LiteRtStatus,                                                       \
    (LiteRtHandle, size_t, size_t, LiteRtHandle *, size_t, LiteRtHandle *))

#endif
