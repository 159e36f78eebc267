/* A disk that fails on purpose and remembers what it was told: preloaded into a process under test.
 *
 * It stands between the process and the C library for every file below one folder, and does two
 * things: it writes down each operation in the order in which they happened, with its data, so that
 * a power cut at any point can be built afterwards; and it makes the N-th operation of some kind
 * fail, or the process die there, as a page of memory shared through a file tells it to.
 *
 * One mutex is held around an operation and its entry, so that the order of the log is the order in
 * which things happened. What a memory map writes is not seen: the database under test maps nothing
 * but its shared memory, which no power cut leaves behind.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

/* Operations that can be made to fail; the same bits as `Operation` in control.rs. */
enum { OPEN = 1, READ = 2, WRITE = 4, SYNC = 8, TRUNCATE = 16, UNLINK = 32, STAT = 64, MAP = 128, LOCK = 256 };
/* Files that are meant; the same bits as `FileKind` in control.rs. */
enum { DATABASE = 1, WAL = 2, SHM = 4, JOURNAL = 8 };
/* What happens at the call; the same numbers as `Effect` in control.rs. */
enum { FAIL = 0, DIE_BEFORE = 1, DIE_AFTER = 2, TEAR = 3 };

struct control {
    volatile uint64_t armed, operations, files, nth, for_ever, error, effect, calls, fired, struck;
};

enum { FDS = 65536, NAMES = 4096, SLICES = 1024 };
/* What an open descriptor leads to: 0 nothing of ours, -1 the folder itself, else a file's number. */
static int32_t watched[FDS];
static uint8_t kind_of[FDS];
static uint8_t appends[FDS];
/* The error that a descriptor's next sync has to report, because a sync through another one failed:
 * Linux tells each descriptor that was open (since 4.13; Documentation/filesystems/vfs.rst, "Handling
 * errors during writeback"). */
static int owed[FDS];

/* The numbers that names in the folder stand for. A name that is made anew gets a new one. */
static struct { char *name; int32_t file; } names[NAMES];
static int32_t files_seen = 0;

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static char folder[4096];
static size_t folder_length = 0;
static int log_fd = -1;
static int log_sockets = 0;
static const char *forget = "";
static struct control *control = NULL;

#define REAL(type, name, ...) \
    static type (*real)(__VA_ARGS__) = NULL; \
    if (!real) real = (type (*)(__VA_ARGS__))dlsym(RTLD_NEXT, #name)

static ssize_t plain_writev(int fd, const struct iovec *slices, int count) {
    REAL(ssize_t, writev, int, const struct iovec *, int);
    return real(fd, slices, count);
}

static int plain_open(const char *path, int flags, mode_t mode) {
    REAL(int, open64, const char *, int, ...);
    return real(path, flags, mode);
}

__attribute__((constructor)) static void begin(void) {
    const char *where = getenv("FAULT_DISK_FOLDER"), *text;
    if (!where || strlen(where) >= sizeof folder) return;
    if ((text = getenv("FAULT_DISK_LOG")))
        log_fd = plain_open(text, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    log_sockets = getenv("FAULT_DISK_SOCKETS") != NULL;
    if ((text = getenv("FAULT_DISK_FORGET_SYNC"))) forget = text;
    if ((text = getenv("FAULT_DISK_CONTROL"))) {
        int fd = plain_open(text, O_RDWR | O_CLOEXEC, 0);
        void *page = mmap(NULL, sizeof *control, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
        if (fd >= 0 && page != MAP_FAILED) control = page;
        if (fd >= 0) close(fd);
    }
    strcpy(folder, where);
    folder_length = strlen(folder); /* Last: from here on files are watched. */
}

/* The part of a path below the folder; "" for the folder itself; NULL if it is elsewhere. */
static const char *below(const char *path) {
    if (!folder_length || !path || strncmp(path, folder, folder_length) != 0) return NULL;
    path += folder_length;
    if (*path == '\0') return path;
    return *path == '/' ? path + 1 : NULL;
}

static int ends_with(const char *name, const char *end) {
    size_t length = strlen(name), tail = strlen(end);
    return length >= tail && strcmp(name + length - tail, end) == 0;
}

static uint8_t kind(const char *name) {
    if (ends_with(name, "-wal")) return WAL;
    if (ends_with(name, "-shm")) return SHM;
    if (ends_with(name, "-journal")) return JOURNAL;
    return ends_with(name, ".db") ? DATABASE : 0;
}

static int is_watched(int fd) { return fd >= 0 && fd < FDS && watched[fd] != 0; }

/* ---- the log ---- */

static void note(char what, int32_t file, uint64_t number, const void *data, size_t length) {
    struct { uint32_t what; int32_t file; uint64_t number, length; } head =
        { (unsigned char)what, file, number, length };
    if (log_fd < 0) return;
    struct iovec slices[2] = { { &head, sizeof head }, { (void *)data, length } };
    int before = errno;
    /* A log that cannot be written would prove nothing. */
    if (plain_writev(log_fd, slices, 2) != (ssize_t)(sizeof head + length)) abort();
    errno = before;
}

/* ---- faults ---- */

/* Whether this call is the one: then the process dies here, or -1 is returned to have it fail. */
static int strikes(uint64_t operation, uint8_t file_kind) {
    struct control *c = control;
    if (!c || !c->armed || !(c->operations & operation) || !(c->files & file_kind)) return 0;
    uint64_t call = __sync_add_and_fetch(&c->calls, 1);
    if (c->for_ever ? call < c->nth : call != c->nth) return 0;
    __sync_add_and_fetch(&c->fired, 1);
    c->struck = operation << 8 | file_kind;
    if (c->effect == DIE_BEFORE) kill(getpid(), SIGKILL);
    return 1;
}

static int fails(uint64_t operation, uint8_t file_kind) {
    if (!strikes(operation, file_kind)) return 0;
    if (control->effect == DIE_AFTER) return 2;
    errno = (int)control->error;
    return 1;
}

static void die_if(int fault) { if (fault == 2) kill(getpid(), SIGKILL); }

/* ---- opening and closing ---- */

static void remember(int fd, const char *name, int flags, int made) {
    if (fd < 0 || fd >= FDS) return;
    kind_of[fd] = kind(name);
    owed[fd] = 0;
    appends[fd] = (flags & O_APPEND) != 0;
    if (*name == '\0') {
        watched[fd] = -1;
        return;
    }
    int free_slot = -1;
    for (int slot = 0; slot < NAMES; slot++) {
        if (names[slot].name && strcmp(names[slot].name, name) == 0) {
            if (made) { free(names[slot].name); names[slot].name = NULL; }
            else { watched[fd] = names[slot].file; return; }
        }
        if (!names[slot].name && free_slot < 0) free_slot = slot;
    }
    if (free_slot < 0) abort();
    names[free_slot].name = strdup(name);
    watched[fd] = names[free_slot].file = ++files_seen;
    note('O', watched[fd], (uint64_t)made, name, strlen(name));
}

static int open_at(int from, const char *path, int flags, mode_t mode) {
    REAL(int, openat64, int, const char *, int, ...);
    const char *name = below(path);
    if (!name) {
        int fd = real(from, path, flags, mode);
        if (fd >= 0 && fd < FDS) watched[fd] = 0;
        return fd;
    }
    pthread_mutex_lock(&lock);
    int fault = fails(OPEN, kind(name)), fd = -1;
    if (fault != 1) {
        int made = (flags & O_CREAT) && faccessat(from, path, F_OK, 0) != 0;
        fd = real(from, path, flags, mode);
        if (fd >= 0) remember(fd, name, flags, made);
        if (fd >= 0 && (flags & O_TRUNC) && !made) note('T', watched[fd], 0, NULL, 0);
        die_if(fault);
    }
    pthread_mutex_unlock(&lock);
    return fd;
}

#define WITH_MODE(flags) \
    mode_t mode = 0; \
    if ((flags) & (O_CREAT | O_TMPFILE)) { \
        va_list rest; va_start(rest, flags); mode = va_arg(rest, mode_t); va_end(rest); \
    }
int open(const char *path, int flags, ...) { WITH_MODE(flags) return open_at(AT_FDCWD, path, flags, mode); }
int open64(const char *path, int flags, ...) { WITH_MODE(flags) return open_at(AT_FDCWD, path, flags, mode); }
int openat(int from, const char *path, int flags, ...) { WITH_MODE(flags) return open_at(from, path, flags, mode); }
int openat64(int from, const char *path, int flags, ...) { WITH_MODE(flags) return open_at(from, path, flags, mode); }

int close(int fd) {
    REAL(int, close, int);
    if (fd >= 0 && fd < FDS) watched[fd] = 0;
    return real(fd);
}

/* ---- reading ---- */

static int is_socket(int fd) {
    struct stat about;
    return log_fd >= 0 && log_sockets && fd != log_fd && fstat(fd, &about) == 0 && S_ISSOCK(about.st_mode);
}

static void heard(int fd, const void *data, ssize_t length) {
    if (length <= 0 || !is_socket(fd)) return;
    pthread_mutex_lock(&lock);
    note('Q', fd, 0, data, (size_t)length);
    pthread_mutex_unlock(&lock);
}

static int read_fails(int fd) {
    if (!is_watched(fd)) return 0;
    pthread_mutex_lock(&lock);
    int fault = fails(READ, kind_of[fd]);
    pthread_mutex_unlock(&lock);
    die_if(fault);
    return fault;
}

ssize_t read(int fd, void *data, size_t length) {
    REAL(ssize_t, read, int, void *, size_t);
    if (read_fails(fd)) return -1;
    ssize_t done = real(fd, data, length);
    if (!is_watched(fd)) heard(fd, data, done);
    return done;
}

ssize_t recv(int fd, void *data, size_t length, int flags) {
    REAL(ssize_t, recv, int, void *, size_t, int);
    ssize_t done = real(fd, data, length, flags);
    if (!(flags & MSG_PEEK)) heard(fd, data, done);
    return done;
}

ssize_t pread64(int fd, void *data, size_t length, off64_t offset) {
    REAL(ssize_t, pread64, int, void *, size_t, off64_t);
    return read_fails(fd) ? -1 : real(fd, data, length, offset);
}
ssize_t pread(int fd, void *data, size_t length, off_t offset) { return pread64(fd, data, length, offset); }

/* ---- writing ---- */

/* Writes one stretch; `offset` < 0 stands for the descriptor's own position. */
static ssize_t put(int fd, const struct iovec *slices, int count, off64_t offset) {
    REAL(ssize_t, pwritev64, int, const struct iovec *, int, off64_t);
    int own = offset < 0;
    struct iovec torn;
    pthread_mutex_lock(&lock);
    int fault = fails(WRITE, kind_of[fd]);
    int tear = fault == 1 && control->effect == TEAR;
    if (tear && slices[0].iov_len > 512) {
        /* The first half arrives, in whole sectors, and then the disk is full. */
        torn.iov_base = slices[0].iov_base;
        torn.iov_len = slices[0].iov_len / 2 / 512 * 512;
        if (torn.iov_len == 0) torn.iov_len = 512;
        slices = &torn;
        count = 1;
    } else if (fault == 1) {
        pthread_mutex_unlock(&lock);
        return -1;
    }
    if (own) offset = lseek64(fd, 0, appends[fd] ? SEEK_END : SEEK_CUR);
    ssize_t done = own ? plain_writev(fd, slices, count) : real(fd, slices, count, offset);
    ssize_t left = done;
    uint64_t place = (uint64_t)offset;
    for (int i = 0; i < count && left > 0; i++) {
        size_t length = slices[i].iov_len < (size_t)left ? slices[i].iov_len : (size_t)left;
        if (kind_of[fd] != SHM) note('W', watched[fd], place, slices[i].iov_base, length);
        place += length;
        left -= (ssize_t)length;
    }
    die_if(fault);
    if (tear) {
        errno = (int)control->error;
        done = -1;
    }
    pthread_mutex_unlock(&lock);
    return done;
}

/* An answer on a socket is noted before it leaves: what it promises has to be synced by now. */
static void says(int fd, const void *data, size_t length) {
    if (!is_socket(fd)) return;
    pthread_mutex_lock(&lock);
    note('A', fd, 0, data, length);
    pthread_mutex_unlock(&lock);
}

ssize_t write(int fd, const void *data, size_t length) {
    REAL(ssize_t, write, int, const void *, size_t);
    struct iovec slice = { (void *)data, length };
    if (is_watched(fd)) return put(fd, &slice, 1, -1);
    says(fd, data, length);
    return real(fd, data, length);
}

ssize_t send(int fd, const void *data, size_t length, int flags) {
    REAL(ssize_t, send, int, const void *, size_t, int);
    says(fd, data, length);
    return real(fd, data, length, flags);
}

ssize_t writev(int fd, const struct iovec *slices, int count) {
    if (is_watched(fd)) return put(fd, slices, count, -1);
    if (count > 0 && count <= SLICES && is_socket(fd)) {
        /* A promise in the second slice is none without the first; the first is enough to see it. */
        for (int i = 0; i < count; i++) says(fd, slices[i].iov_base, slices[i].iov_len);
    }
    return plain_writev(fd, slices, count);
}

ssize_t pwrite64(int fd, const void *data, size_t length, off64_t offset) {
    REAL(ssize_t, pwrite64, int, const void *, size_t, off64_t);
    struct iovec slice = { (void *)data, length };
    return is_watched(fd) ? put(fd, &slice, 1, offset) : real(fd, data, length, offset);
}
ssize_t pwrite(int fd, const void *data, size_t length, off_t offset) { return pwrite64(fd, data, length, offset); }

int ftruncate64(int fd, off64_t length) {
    REAL(int, ftruncate64, int, off64_t);
    if (!is_watched(fd)) return real(fd, length);
    pthread_mutex_lock(&lock);
    int fault = fails(TRUNCATE, kind_of[fd]), done = -1;
    if (fault != 1) {
        done = real(fd, length);
        if (done == 0 && kind_of[fd] != SHM) note('T', watched[fd], (uint64_t)length, NULL, 0);
        die_if(fault);
    }
    pthread_mutex_unlock(&lock);
    return done;
}
int ftruncate(int fd, off_t length) { return ftruncate64(fd, length); }

/* ---- syncing ---- */

static int sync_with(int fd, int (*real)(int)) {
    if (!is_watched(fd)) return real(fd);
    pthread_mutex_lock(&lock);
    /* The folder counts as the WAL's: it is synced for the WAL's sake. */
    int fault = fails(SYNC, watched[fd] == -1 ? WAL : kind_of[fd]), done = -1;
    if (fault == 1) {
        for (int other = 0; other < FDS; other++)
            if (other != fd && watched[other] == watched[fd]) owed[other] = errno;
        note('F', watched[fd], (uint64_t)fd, NULL, 0);
    } else if (owed[fd]) {
        /* It tells of what was lost before: nothing more is, and nothing is vouched for. */
        errno = owed[fd];
        owed[fd] = 0;
    } else {
        done = real(fd);
        int forgotten = strcmp(forget, "all") == 0 || (strcmp(forget, "wal") == 0 && kind_of[fd] == WAL);
        if (done == 0 && !forgotten) note('S', watched[fd], (uint64_t)fd, NULL, 0);
        die_if(fault);
    }
    pthread_mutex_unlock(&lock);
    return done;
}

int fsync(int fd) { REAL(int, fsync, int); return sync_with(fd, real); }
int fdatasync(int fd) { REAL(int, fdatasync, int); return sync_with(fd, real); }

/* ---- names ---- */

static int unlink_with(int from, const char *path, int flags) {
    REAL(int, unlinkat, int, const char *, int);
    const char *name = below(path);
    if (!name) return real(from, path, flags);
    pthread_mutex_lock(&lock);
    int fault = fails(UNLINK, kind(name)), done = -1;
    if (fault != 1) {
        done = real(from, path, flags);
        if (done == 0) {
            note('U', 0, 0, name, strlen(name));
            for (int slot = 0; slot < NAMES; slot++) {
                if (names[slot].name && strcmp(names[slot].name, name) == 0) {
                    free(names[slot].name);
                    names[slot].name = NULL;
                }
            }
        }
        die_if(fault);
    }
    pthread_mutex_unlock(&lock);
    return done;
}
int unlink(const char *path) { return unlink_with(AT_FDCWD, path, 0); }
int unlinkat(int from, const char *path, int flags) { return unlink_with(from, path, flags); }

/* SQLite renames nothing in the folder; if it ever does, the model of the disk has to learn it. */
int rename(const char *from, const char *to) {
    REAL(int, rename, const char *, const char *);
    if (log_fd >= 0 && (below(from) || below(to))) abort();
    return real(from, to);
}

/* ---- the rest that can fail ---- */

void *mmap64(void *at, size_t length, int protection, int flags, int fd, off64_t offset) {
    REAL(void *, mmap64, void *, size_t, int, int, int, off64_t);
    if (is_watched(fd)) {
        int fault = fails(MAP, kind_of[fd]);
        if (fault == 1) return MAP_FAILED;
        /* A shared map of anything but the shared memory would escape the log. */
        if (log_fd >= 0 && kind_of[fd] != SHM && (flags & MAP_SHARED) && (protection & PROT_WRITE)) abort();
        die_if(fault);
    }
    return real(at, length, protection, flags, fd, offset);
}
void *mmap(void *at, size_t length, int protection, int flags, int fd, off_t offset) {
    return mmap64(at, length, protection, flags, fd, offset);
}

static int named_fails(uint64_t operation, const char *path) {
    const char *name = below(path);
    if (!name) return 0;
    int fault = fails(operation, kind(name));
    die_if(fault);
    return fault;
}

int stat64(const char *path, struct stat64 *about) {
    REAL(int, stat64, const char *, struct stat64 *);
    return named_fails(STAT, path) ? -1 : real(path, about);
}

int fstat64(int fd, struct stat64 *about) {
    REAL(int, fstat64, int, struct stat64 *);
    if (is_watched(fd)) {
        int fault = fails(STAT, kind_of[fd]);
        die_if(fault);
        if (fault) return -1;
    }
    return real(fd, about);
}

int statx(int from, const char *path, int flags, unsigned mask, struct statx *about) {
    REAL(int, statx, int, const char *, int, unsigned, struct statx *);
    return named_fails(STAT, path) ? -1 : real(from, path, flags, mask, about);
}

static int control_file(int fd, int command, void *argument, int (*real)(int, int, ...)) {
    if (is_watched(fd) && (command == F_SETLK || command == F_SETLKW) &&
        ((struct flock *)argument)->l_type != F_UNLCK) {
        int fault = fails(LOCK, kind_of[fd]);
        die_if(fault);
        if (fault) return -1;
    }
    int result = real(fd, command, argument);
    if ((command == F_DUPFD || command == F_DUPFD_CLOEXEC) && result >= 0 && result < FDS) {
        watched[result] = is_watched(fd) ? watched[fd] : 0;
        kind_of[result] = is_watched(fd) ? kind_of[fd] : 0;
    }
    return result;
}
#define WITH_ARGUMENT(last) \
    va_list rest; va_start(rest, last); void *argument = va_arg(rest, void *); va_end(rest)
int fcntl(int fd, int command, ...) {
    WITH_ARGUMENT(command);
    REAL(int, fcntl, int, int, ...);
    return control_file(fd, command, argument, real);
}
int fcntl64(int fd, int command, ...) {
    WITH_ARGUMENT(command);
    REAL(int, fcntl64, int, int, ...);
    return control_file(fd, command, argument, real);
}
