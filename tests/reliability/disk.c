/* What a process does to the files below one directory: counted, written down, and cut off.
 *
 * Loaded with LD_PRELOAD. DISK_BELOW says which directory. Each call that changes a file or makes it durable counts;
 * at the call that `disk_arm` names the process kills itself: before it, or in the middle of what it writes. With
 * DISK_TRACE each call is written down after it was made, in the order in which they were made.
 *
 * Files whose names begin with "ack" are the test's own: what is written to them is traced and does not count.
 *
 * A record of the trace: kind (1 byte), length of the path (2), offset or size (8), length of the data (8), the path,
 * the data; numbers in the machine's order. Kinds: W write, T truncate, S sync, O create, U unlink, A acknowledge.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <unistd.h>

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static long count, kill_at;
static int torn, trace = -1;
static char below[PATH_MAX];
static size_t below_length;

#define REAL(type, name, ...)                                  \
  static type (*real)(__VA_ARGS__);                            \
  if (!real) real = (type(*)(__VA_ARGS__))dlsym(RTLD_NEXT, name)

static ssize_t put(int fd, const void *data, size_t length) {
  REAL(ssize_t, "write", int, const void *, size_t);
  return real(fd, data, length);
}

__attribute__((constructor)) static void begin(void) {
  const char *directory = getenv("DISK_BELOW");
  if (directory) {
    snprintf(below, sizeof below, "%s/", directory);
    below_length = strlen(below);
  }
}

/* From now on: which directory, at which call to die (0: at none), whether in its middle, and where the trace goes. */
void disk_arm(const char *directory, long at, int in_the_middle, const char *trace_path) {
  REAL(int, "open64", const char *, int, ...);
  snprintf(below, sizeof below, "%s/", directory);
  below_length = strlen(below);
  count = 0;
  kill_at = at;
  torn = in_the_middle;
  if (trace_path) trace = real(trace_path, O_CREAT | O_WRONLY | O_APPEND | O_CLOEXEC, 0600);
}

long disk_count(void) { return count; }

static int is_ours(const char *path) { return below_length && !strncmp(path, below, below_length); }

/* The directory itself, or a file in it. */
static int find(int fd, char *path) {
  char link[64];
  snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
  ssize_t length = readlink(link, path, PATH_MAX - 2);
  if (length < 0) return 0;
  path[length] = 0;
  if (is_ours(path)) return 1;
  path[length] = '/';
  path[length + 1] = 0;
  int is_directory = below_length && !strcmp(path, below);
  path[length] = 0;
  return is_directory;
}

static int is_ack(const char *path) { return !strncmp(path + below_length, "ack", 3); }

static void note(char kind, const char *path, uint64_t offset, const void *data, uint64_t length) {
  if (trace < 0) return;
  char head[19];
  uint16_t path_length = (uint16_t)strlen(path);
  head[0] = kind;
  memcpy(head + 1, &path_length, 2);
  memcpy(head + 3, &offset, 8);
  memcpy(head + 11, &length, 8);
  put(trace, head, sizeof head);
  put(trace, path, path_length);
  if (length) put(trace, data, length);
}

/* Counts a call; whether it is the last one. */
static int is_last(void) { return ++count == kill_at; }

static void die(void) {
  kill(getpid(), SIGKILL);
  for (;;) pause();
}

static ssize_t write_at(int fd, const void *data, size_t length, off64_t offset, int at_end) {
  REAL(ssize_t, "pwrite64", int, const void *, size_t, off64_t);
  char path[PATH_MAX];
  if (!find(fd, path)) return at_end ? put(fd, data, length) : real(fd, data, length, offset);
  pthread_mutex_lock(&lock);
  int ack = is_ack(path);
  if (!ack && is_last()) {
    if (torn) {
      if (at_end) put(fd, data, length / 2);
      else real(fd, data, length / 2, offset);
    }
    die();
  }
  if (at_end) offset = ack ? 0 : lseek64(fd, 0, SEEK_CUR);
  ssize_t written = at_end ? put(fd, data, length) : real(fd, data, length, offset);
  if (written > 0) note(ack ? 'A' : 'W', path, (uint64_t)offset, data, (uint64_t)written);
  pthread_mutex_unlock(&lock);
  return written;
}

ssize_t pwrite64(int fd, const void *data, size_t length, off64_t offset) {
  return write_at(fd, data, length, offset, 0);
}
ssize_t pwrite(int fd, const void *data, size_t length, off_t offset) {
  return write_at(fd, data, length, offset, 0);
}
ssize_t write(int fd, const void *data, size_t length) { return write_at(fd, data, length, 0, 1); }

static int synced(int fd, const char *name) {
  int (*real)(int) = (int (*)(int))dlsym(RTLD_NEXT, name);
  char path[PATH_MAX];
  if (!find(fd, path) || is_ack(path)) return real(fd);
  pthread_mutex_lock(&lock);
  if (is_last()) die();
  int failed = real(fd);
  if (!failed) note('S', path, 0, NULL, 0);
  pthread_mutex_unlock(&lock);
  return failed;
}

int fsync(int fd) { return synced(fd, "fsync"); }
int fdatasync(int fd) { return synced(fd, "fdatasync"); }

static int truncated(int fd, off64_t size) {
  REAL(int, "ftruncate64", int, off64_t);
  char path[PATH_MAX];
  if (!find(fd, path)) return real(fd, size);
  pthread_mutex_lock(&lock);
  if (is_last()) die();
  int failed = real(fd, size);
  if (!failed) note('T', path, (uint64_t)size, NULL, 0);
  pthread_mutex_unlock(&lock);
  return failed;
}

int ftruncate64(int fd, off64_t size) { return truncated(fd, size); }
int ftruncate(int fd, off_t size) { return truncated(fd, size); }

int unlink(const char *path) {
  REAL(int, "unlink", const char *);
  if (!is_ours(path)) return real(path);
  pthread_mutex_lock(&lock);
  if (is_last()) die();
  int failed = real(path);
  if (!failed) note('U', path, 0, NULL, 0);
  pthread_mutex_unlock(&lock);
  return failed;
}

int rename(const char *from, const char *to) {
  if (is_ours(from) || is_ours(to)) {
    fprintf(stderr, "disk.c: rename is not modelled\n");
    abort();
  }
  REAL(int, "rename", const char *, const char *);
  return real(from, to);
}

static int opened(const char *name, const char *path, int flags, mode_t mode) {
  int (*real)(const char *, int, ...) = (int (*)(const char *, int, ...))dlsym(RTLD_NEXT, name);
  if (!(flags & O_CREAT) || !is_ours(path) || is_ack(path)) return real(path, flags, mode);
  pthread_mutex_lock(&lock);
  int there = access(path, F_OK) == 0;
  if (!there && is_last()) die();
  int fd = real(path, flags, mode);
  int saved = errno;
  if (fd >= 0 && !there) note('O', path, 0, NULL, 0);
  pthread_mutex_unlock(&lock);
  errno = saved;
  return fd;
}

int open64(const char *path, int flags, ...) {
  va_list rest;
  va_start(rest, flags);
  mode_t mode = flags & O_CREAT ? va_arg(rest, mode_t) : 0;
  va_end(rest);
  return opened("open64", path, flags, mode);
}

int open(const char *path, int flags, ...) {
  va_list rest;
  va_start(rest, flags);
  mode_t mode = flags & O_CREAT ? va_arg(rest, mode_t) : 0;
  va_end(rest);
  return opened("open", path, flags, mode);
}
