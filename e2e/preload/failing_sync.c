/* A disk that fails: fsync and fdatasync answer EIO while the file that SYNC_FAILS names is there. Loaded before libc. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

static int fails(void) {
  const char *file = getenv("SYNC_FAILS");
  return file && access(file, F_OK) == 0;
}

static int sync_by(const char *name, int descriptor) {
  if (fails()) {
    errno = EIO;
    return -1;
  }
  errno = 0;
  return ((int (*)(int))dlsym(RTLD_NEXT, name))(descriptor);
}

int fsync(int descriptor) { return sync_by("fsync", descriptor); }

int fdatasync(int descriptor) { return sync_by("fdatasync", descriptor); }
