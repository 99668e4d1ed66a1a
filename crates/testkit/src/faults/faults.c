/* Faults of a disk, in a process that does not know of them: preloaded, it stands between the program and the C library.
 *
 * Every call that changes what is on the disk below one folder is a point, and points are numbered from 1 as they come: bytes
 * written, files and folders made, named, cut off and removed, and everything that makes such a change durable. Each point is a
 * line of the trace, which goes on over the processes that take up after one another. At some points, or at none, a fault
 * happens:
 *
 *   die    the process ends before the call
 *   torn   half of a write is done, anything else whole; then the process ends
 *   cut    power is lost before the call: the process ends, and what was not made durable is undone, names included
 *   broken the call fails with EIO, once
 *   full   calls that take room fail with ENOSPC for a moment; here only those are numbered
 *
 * One fault at a time: with it comes a file of the trace's name and .held, and while that is there, no other happens. A point
 * that is reached meanwhile is passed. Whoever has seen that everything goes on again removes the file.
 *
 * Not counted: files named *-shm, which SQLite makes anew after every start; log.txt, which is what a service says; and what a
 * process does that takes up, until it has given a file the name that FAULTS_AFTER names.
 *
 * Told by the environment: FAULTS_BELOW (folder), FAULTS_TRACE (file, on the same file system), FAULTS_MODE, FAULTS_AT (a file
 * with a byte for each point from 1 on, other than 0 where a fault may happen), FAULTS_PASSED (how many points the processes
 * before have counted, and how many of them take room; absent for the first), FAULTS_AFTER. Built by `faults.rs` beside it; it
 * uses system calls directly, so that nothing is called twice. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

/* How the process ends at its point; `faults.rs` knows the number. */
#define DIED 99
/* How long a disk stays full. */
#define FULL_MS 200

enum mode { NONE, DIE, TORN, CUT, BROKEN, FULL };
enum verdict { GO, FAIL, HALF };

static pthread_mutex_t turn = PTHREAD_RECURSIVE_MUTEX_INITIALIZER_NP;
static char below[PATH_MAX], saved[PATH_MAX], held[PATH_MAX], after[NAME_MAX];
static size_t below_length;
static int trace = -1;
static long point, roomy, full_until, keeping;
static enum mode mode;
/* Where a fault may happen: a byte for each point, the first for point 1. */
static char *chosen;
static long chosen_length;

/* A change that is not durable yet, newest first: what undoes it. */
struct change {
    struct change *older;
    enum { BYTES, MADE, MADE_FOLDER, MOVED, GONE, GONE_FOLDER } what;
    dev_t device;
    ino_t inode;
    off_t at, size;      /* BYTES: where they began, and how long the file was */
    ssize_t length;      /* BYTES: how many of the old ones there were */
    char *old;           /* BYTES */
    char *path, *from;   /* MOVED: from there to path */
    char *kept;          /* a further name of what was replaced or removed */
};
static struct change *changes;

/* What has changed since it was last made durable, file or folder. */
struct dirty {
    struct dirty *next;
    dev_t device;
    ino_t inode;
};
static struct dirty *dirty;

static long now(void) {
    struct timespec time;
    syscall(SYS_clock_gettime, CLOCK_MONOTONIC, &time);
    return time.tv_sec * 1000 + time.tv_nsec / 1000000;
}

static void say(const char *mark, const char *kind, const char *path) {
    char line[PATH_MAX + 64];
    const char *name = path[below_length] ? path + below_length + 1 : ".";
    int length = snprintf(line, sizeof line, "%s%ld %s %s\n", mark, point, kind, name);
    syscall(SYS_write, trace, line, (size_t)length);
}

static int counts(const char *path) {
    if (trace < 0 || strncmp(path, below, below_length) != 0 || (path[below_length] && path[below_length] != '/')) return 0;
    size_t length = strlen(path);
    return !(length > 4 && strcmp(path + length - 4, "-shm") == 0) && strcmp(strrchr(path, '/'), "/log.txt") != 0;
}

/* The path of a descriptor; none when it is no file or folder of ours. */
static int path_of(int fd, char *path) {
    char link[64];
    if (trace < 0) return 0;
    int before = errno;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = syscall(SYS_readlinkat, AT_FDCWD, link, path, (size_t)PATH_MAX - 1);
    errno = before;
    if (length <= 0) return 0;
    path[length] = 0;
    return counts(path);
}

static int absolute(int folder, const char *name, char *path) {
    if (trace < 0) return 0;
    if (name[0] == '/') {
        snprintf(path, PATH_MAX, "%s", name);
    } else {
        char link[64], base[PATH_MAX];
        if (folder == AT_FDCWD) snprintf(link, sizeof link, "/proc/self/cwd");
        else snprintf(link, sizeof link, "/proc/self/fd/%d", folder);
        ssize_t length = syscall(SYS_readlinkat, AT_FDCWD, link, base, sizeof base - 1);
        if (length <= 0) return 0;
        base[length] = 0;
        if (snprintf(path, PATH_MAX, "%s/%s", base, name) >= PATH_MAX) return 0;
    }
    return counts(path);
}

static void parent(const char *path, char *folder) {
    snprintf(folder, PATH_MAX, "%s", path);
    *strrchr(folder, '/') = 0;
}

/* --- what is not durable -------------------------------------------------------------------------------------------------- */

static void soil(dev_t device, ino_t inode) {
    for (struct dirty *one = dirty; one; one = one->next)
        if (one->device == device && one->inode == inode) return;
    struct dirty *one = malloc(sizeof *one);
    *one = (struct dirty){ dirty, device, inode };
    dirty = one;
}

static void soil_fd(int fd) {
    struct stat about;
    if (fstat(fd, &about) == 0) soil(about.st_dev, about.st_ino);
}

static void soil_parent(const char *path) {
    char folder[PATH_MAX];
    struct stat about;
    parent(path, folder);
    if (stat(folder, &about) == 0) soil(about.st_dev, about.st_ino);
}

/* Whether there was anything that was not durable. */
static int clean(dev_t device, ino_t inode) {
    for (struct dirty **link = &dirty; *link; link = &(*link)->next)
        if ((*link)->device == device && (*link)->inode == inode) {
            struct dirty *one = *link;
            *link = one->next;
            free(one);
            return 1;
        }
    return 0;
}

static int is_dirty(dev_t device, ino_t inode) {
    for (struct dirty *one = dirty; one; one = one->next)
        if (one->device == device && one->inode == inode) return 1;
    return 0;
}

static struct change *changed(int what, const char *path) {
    struct change *one = calloc(1, sizeof *one);
    one->older = changes;
    one->what = what;
    one->path = strdup(path);
    changes = one;
    return one;
}

/* Remembers the bytes that a write or a cut replaces: `length` of them from `from` on. */
static void remember_bytes(int fd, const char *path, off_t from, size_t length) {
    struct stat about;
    if (mode != CUT || fstat(fd, &about) != 0) return;
    struct change *one = changed(BYTES, path);
    one->device = about.st_dev;
    one->inode = about.st_ino;
    one->at = from;
    one->size = about.st_size;
    one->old = malloc(length + 1);
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    int reading = syscall(SYS_openat, AT_FDCWD, link, O_RDONLY | O_CLOEXEC, 0);
    one->length = reading < 0 ? 0 : syscall(SYS_pread64, reading, one->old, length, from);
    if (one->length < 0) one->length = 0;
    if (reading >= 0) syscall(SYS_close, reading);
}

/* Gives a file that is about to lose a name another one. */
static char *keep(const char *path) {
    char other[PATH_MAX + 32];
    snprintf(other, sizeof other, "%s/%d-%ld", saved, getpid(), keeping++);
    if (syscall(SYS_linkat, AT_FDCWD, path, AT_FDCWD, other, 0) != 0) return NULL;
    return strdup(other);
}

static void forget(struct change **link) {
    struct change *one = *link;
    *link = one->older;
    if (one->kept) syscall(SYS_unlinkat, AT_FDCWD, one->kept, 0);
    free(one->old);
    free(one->path);
    free(one->from);
    free(one->kept);
    free(one);
}

/* A file's bytes, or a folder's names, are durable. */
static void durable(const struct stat *about, const char *path) {
    struct change **link = &changes;
    char folder[PATH_MAX];
    while (*link) {
        struct change *one = *link;
        int done;
        if (one->what == BYTES) {
            done = one->device == about->st_dev && one->inode == about->st_ino;
        } else {
            parent(one->path, folder);
            done = strcmp(folder, path) == 0;
        }
        if (done) forget(link);
        else link = &one->older;
    }
}

static void undo(void) {
    while (changes) {
        struct change *one = changes;
        int fd;
        switch (one->what) {
        case BYTES:
            fd = syscall(SYS_openat, AT_FDCWD, one->path, O_WRONLY | O_CLOEXEC, 0);
            if (fd < 0) break;
            struct stat about;
            if (fstat(fd, &about) == 0 && about.st_ino == one->inode) {
                for (ssize_t done = 0; done < one->length;) {
                    ssize_t more = syscall(SYS_pwrite64, fd, one->old + done, one->length - done, one->at + done);
                    if (more <= 0) break;
                    done += more;
                }
                syscall(SYS_ftruncate, fd, one->size);
            }
            syscall(SYS_close, fd);
            break;
        case MADE: syscall(SYS_unlinkat, AT_FDCWD, one->path, 0); break;
        case MADE_FOLDER: syscall(SYS_unlinkat, AT_FDCWD, one->path, AT_REMOVEDIR); break;
        case GONE_FOLDER: syscall(SYS_mkdirat, AT_FDCWD, one->path, 0700); break;
        case MOVED: syscall(SYS_renameat2, AT_FDCWD, one->path, AT_FDCWD, one->from, 0); /* fall through */
        case GONE: if (one->kept) syscall(SYS_linkat, AT_FDCWD, one->kept, AT_FDCWD, one->path, 0); break;
        }
        forget(&changes);
    }
}

/* --- the point ------------------------------------------------------------------------------------------------------------ */

static void end(void) {
    for (;;) syscall(SYS_exit_group, DIED);
}

/* Whether a fault happens at the point that was just counted; then none other until somebody says so. */
static int happens(int room) {
    long number = mode == FULL ? roomy : point;
    if (mode == NONE || (mode == FULL && !room) || number > chosen_length || !chosen[number - 1]) return 0;
    if (syscall(SYS_faccessat, AT_FDCWD, held, F_OK) == 0) return 0;
    syscall(SYS_close, syscall(SYS_openat, AT_FDCWD, held, O_WRONLY | O_CREAT | O_CLOEXEC, 0600));
    return 1;
}

/* Counts a point and says what happens there. `room`: whether the call takes room on the disk. */
static enum verdict reach(const char *kind, const char *path, int room) {
    if (*after) return GO;
    point++;
    roomy += room;
    say("", kind, path);
    if (room && full_until && now() < full_until) {
        errno = ENOSPC;
        return FAIL;
    }
    if (!happens(room)) return GO;
    say("!", kind, path);
    switch (mode) {
    case CUT: undo(); end(); break;
    case TORN: return HALF;
    case BROKEN: errno = EIO; return FAIL;
    case FULL: full_until = now() + FULL_MS; errno = ENOSPC; return FAIL;
    default: end();
    }
    return GO;
}

#define IN_TURN(result, work)             \
    do {                                  \
        pthread_mutex_lock(&turn);        \
        result = (work);                  \
        int after = errno;                \
        pthread_mutex_unlock(&turn);      \
        errno = after;                    \
        return result;                    \
    } while (0)

/* Writes parts at an offset, or at the descriptor's own when that is negative. */
static ssize_t put(int fd, const char *path, const struct iovec *parts, int count, off_t offset) {
    size_t length = 0;
    for (int i = 0; i < count; i++) length += parts[i].iov_len;
    enum verdict verdict = reach("write", path, 1);
    if (verdict == FAIL) return -1;
    off_t from = offset;
    if (from < 0) {
        struct stat about;
        int append = fcntl(fd, F_GETFL) & O_APPEND;
        from = append && fstat(fd, &about) == 0 ? about.st_size : syscall(SYS_lseek, fd, 0, SEEK_CUR);
    }
    remember_bytes(fd, path, from, length);
    soil_fd(fd);
    if (verdict == HALF) {
        size_t left = length / 2;
        for (int i = 0; i < count && left > 0; i++) {
            size_t part = parts[i].iov_len < left ? parts[i].iov_len : left;
            syscall(SYS_pwrite64, fd, parts[i].iov_base, part, from);
            from += part;
            left -= part;
        }
        end();
    }
    return offset < 0 ? syscall(SYS_writev, fd, parts, count)
                      : syscall(SYS_pwritev, fd, parts, count, offset, 0L);
}

ssize_t write(int fd, const void *bytes, size_t length) {
    char path[PATH_MAX];
    if (!path_of(fd, path)) return syscall(SYS_write, fd, bytes, length);
    struct iovec part = { (void *)bytes, length };
    ssize_t result;
    IN_TURN(result, put(fd, path, &part, 1, -1));
}

ssize_t writev(int fd, const struct iovec *parts, int count) {
    char path[PATH_MAX];
    if (!path_of(fd, path)) return syscall(SYS_writev, fd, parts, count);
    ssize_t result;
    IN_TURN(result, put(fd, path, parts, count, -1));
}

ssize_t pwrite64(int fd, const void *bytes, size_t length, off64_t offset) {
    char path[PATH_MAX];
    if (!path_of(fd, path)) return syscall(SYS_pwrite64, fd, bytes, length, offset);
    struct iovec part = { (void *)bytes, length };
    ssize_t result;
    IN_TURN(result, put(fd, path, &part, 1, offset));
}

ssize_t pwrite(int fd, const void *bytes, size_t length, off_t offset) {
    return pwrite64(fd, bytes, length, offset);
}

ssize_t pwritev64(int fd, const struct iovec *parts, int count, off64_t offset) {
    char path[PATH_MAX];
    if (!path_of(fd, path)) return syscall(SYS_pwritev, fd, parts, count, offset, 0L);
    ssize_t result;
    IN_TURN(result, put(fd, path, parts, count, offset));
}

ssize_t pwritev(int fd, const struct iovec *parts, int count, off_t offset) {
    return pwritev64(fd, parts, count, offset);
}

static int cut_off(int fd, const char *path, off_t length) {
    struct stat about;
    enum verdict verdict = reach("truncate", path, 0);
    if (verdict == FAIL) return -1;
    if (fstat(fd, &about) == 0)
        remember_bytes(fd, path, length, about.st_size > length ? (size_t)(about.st_size - length) : 0);
    soil_fd(fd);
    int result = syscall(SYS_ftruncate, fd, length);
    if (verdict == HALF) end();
    return result;
}

int ftruncate64(int fd, off64_t length) {
    char path[PATH_MAX];
    if (!path_of(fd, path)) return syscall(SYS_ftruncate, fd, length);
    int result;
    IN_TURN(result, cut_off(fd, path, length));
}

int ftruncate(int fd, off_t length) {
    return ftruncate64(fd, length);
}

/* --- making it durable ---------------------------------------------------------------------------------------------------- */

static int settle(long call, int fd, const char *path) {
    struct stat about;
    memset(&about, 0, sizeof about);
    fstat(fd, &about);
    /* One that has nothing new to make durable can fail without losing anything. */
    const char *kind = S_ISDIR(about.st_mode)                     ? "sync-folder"
                       : is_dirty(about.st_dev, about.st_ino)     ? "sync"
                                                                  : "sync-nothing";
    enum verdict verdict = reach(kind, path, 0);
    if (verdict == FAIL) return -1;
    int result = syscall(call, fd);
    if (result == 0) {
        clean(about.st_dev, about.st_ino);
        durable(&about, path);
    }
    if (verdict == HALF) end();
    return result;
}

int fsync(int fd) {
    char path[PATH_MAX];
    if (!path_of(fd, path)) return syscall(SYS_fsync, fd);
    int result;
    IN_TURN(result, settle(SYS_fsync, fd, path));
}

int fdatasync(int fd) {
    char path[PATH_MAX];
    if (!path_of(fd, path)) return syscall(SYS_fdatasync, fd);
    int result;
    IN_TURN(result, settle(SYS_fdatasync, fd, path));
}

int sync_file_range(int fd, off64_t offset, off64_t length, unsigned flags) {
    /* It makes nothing durable by itself, and so is no point. */
    return syscall(SYS_sync_file_range, fd, offset, length, flags);
}

/* --- names ---------------------------------------------------------------------------------------------------------------- */

static int move(const char *from, const char *to, unsigned flags) {
    enum verdict verdict = reach("rename", to, 1);
    if (verdict == FAIL) return -1;
    char *kept = mode == CUT ? keep(to) : NULL;
    int result = syscall(SYS_renameat2, AT_FDCWD, from, AT_FDCWD, to, flags);
    if (result == 0) {
        if (*after && strcmp(strrchr(to, '/') + 1, after) == 0) *after = 0;
        soil_parent(from);
        soil_parent(to);
        if (mode == CUT) {
            struct change *one = changed(MOVED, to);
            one->from = strdup(from);
            one->kept = kept;
        }
    }
    if (verdict == HALF) end();
    return result;
}

int renameat2(int from_folder, const char *from, int to_folder, const char *to, unsigned flags) {
    char old[PATH_MAX], new[PATH_MAX];
    int ours = absolute(from_folder, from, old);
    if (!absolute(to_folder, to, new) && !ours) return syscall(SYS_renameat2, from_folder, from, to_folder, to, flags);
    int result;
    IN_TURN(result, move(old, new, flags));
}

int renameat(int from_folder, const char *from, int to_folder, const char *to) {
    return renameat2(from_folder, from, to_folder, to, 0);
}

int rename(const char *from, const char *to) {
    return renameat2(AT_FDCWD, from, AT_FDCWD, to, 0);
}

static int name(const char *from, const char *to, int flags) {
    enum verdict verdict = reach("link", to, 1);
    if (verdict == FAIL) return -1;
    int result = syscall(SYS_linkat, AT_FDCWD, from, AT_FDCWD, to, flags);
    if (result == 0) {
        soil_parent(to);
        if (mode == CUT) changed(MADE, to);
    }
    if (verdict == HALF) end();
    return result;
}

int linkat(int from_folder, const char *from, int to_folder, const char *to, int flags) {
    char old[PATH_MAX], new[PATH_MAX];
    absolute(from_folder, from, old);
    if (!absolute(to_folder, to, new)) return syscall(SYS_linkat, from_folder, from, to_folder, to, flags);
    int result;
    IN_TURN(result, name(old, new, flags));
}

int link(const char *from, const char *to) {
    return linkat(AT_FDCWD, from, AT_FDCWD, to, 0);
}

static int gone(const char *path, int flags) {
    enum verdict verdict = reach(flags & AT_REMOVEDIR ? "rmdir" : "remove", path, 0);
    if (verdict == FAIL) return -1;
    char *kept = mode == CUT && !(flags & AT_REMOVEDIR) ? keep(path) : NULL;
    int result = syscall(SYS_unlinkat, AT_FDCWD, path, flags);
    if (result == 0) {
        soil_parent(path);
        if (mode == CUT) changed(flags & AT_REMOVEDIR ? GONE_FOLDER : GONE, path)->kept = kept;
    }
    if (verdict == HALF) end();
    return result;
}

int unlinkat(int folder, const char *name, int flags) {
    char path[PATH_MAX];
    struct stat about;
    /* What is not there changes nothing. */
    if (!absolute(folder, name, path) || lstat(path, &about) != 0) return syscall(SYS_unlinkat, folder, name, flags);
    if (!(flags & AT_REMOVEDIR) && S_ISDIR(about.st_mode)) return syscall(SYS_unlinkat, folder, name, flags);
    int result;
    IN_TURN(result, gone(path, flags));
}

int unlink(const char *name) {
    return unlinkat(AT_FDCWD, name, 0);
}

int rmdir(const char *name) {
    return unlinkat(AT_FDCWD, name, AT_REMOVEDIR);
}

static int make_folder(const char *path, mode_t access) {
    enum verdict verdict = reach("mkdir", path, 1);
    if (verdict == FAIL) return -1;
    int result = syscall(SYS_mkdirat, AT_FDCWD, path, access);
    if (result == 0) {
        soil_parent(path);
        if (mode == CUT) changed(MADE_FOLDER, path);
    }
    if (verdict == HALF) end();
    return result;
}

int mkdirat(int folder, const char *name, mode_t access) {
    char path[PATH_MAX];
    struct stat about;
    if (!absolute(folder, name, path) || lstat(path, &about) == 0) return syscall(SYS_mkdirat, folder, name, access);
    int result;
    IN_TURN(result, make_folder(path, access));
}

int mkdir(const char *name, mode_t access) {
    return mkdirat(AT_FDCWD, name, access);
}

static int make(const char *path, int flags, mode_t access) {
    enum verdict verdict = reach("create", path, 1);
    if (verdict == FAIL) return -1;
    int result = syscall(SYS_openat, AT_FDCWD, path, flags, access);
    if (result >= 0) {
        soil_parent(path);
        if (mode == CUT) changed(MADE, path);
    }
    if (verdict == HALF) end();
    return result;
}

/* A file that is opened with O_TRUNC and has bytes loses them. */
static int begin_anew(const char *path, int flags, mode_t access) {
    enum verdict verdict = reach("truncate", path, 0);
    if (verdict == FAIL) return -1;
    int fd = syscall(SYS_openat, AT_FDCWD, path, flags & ~O_TRUNC, access);
    struct stat about;
    if (fd >= 0 && fstat(fd, &about) == 0) {
        remember_bytes(fd, path, 0, (size_t)about.st_size);
        soil_fd(fd);
        syscall(SYS_ftruncate, fd, 0L);
    }
    if (verdict == HALF) end();
    return fd;
}

static int opened(int folder, const char *name, int flags, mode_t access) {
    char path[PATH_MAX];
    struct stat about;
    if (!(flags & (O_CREAT | O_TRUNC)) || !absolute(folder, name, path)) return syscall(SYS_openat, folder, name, flags, access);
    int there = stat(path, &about) == 0;
    int result;
    if ((flags & O_CREAT) && !there) IN_TURN(result, make(path, flags, access));
    if ((flags & O_TRUNC) && there && about.st_size > 0 && !(flags & O_EXCL))
        IN_TURN(result, begin_anew(path, flags, access));
    return syscall(SYS_openat, folder, name, flags, access);
}

#define ACCESS(flags, access)                      \
    mode_t access = 0;                             \
    if ((flags) & (O_CREAT | O_TMPFILE)) {         \
        va_list more;                              \
        va_start(more, flags);                     \
        access = (mode_t)va_arg(more, int);        \
        va_end(more);                              \
    }

int open64(const char *name, int flags, ...) {
    ACCESS(flags, access)
    return opened(AT_FDCWD, name, flags, access);
}

int open(const char *name, int flags, ...) {
    ACCESS(flags, access)
    return opened(AT_FDCWD, name, flags, access);
}

int openat64(int folder, const char *name, int flags, ...) {
    ACCESS(flags, access)
    return opened(folder, name, flags, access);
}

int openat(int folder, const char *name, int flags, ...) {
    ACCESS(flags, access)
    return opened(folder, name, flags, access);
}

/* --- the start ------------------------------------------------------------------------------------------------------------ */

/* Takes in the file that says where faults may happen. */
static void choose(const char *file) {
    struct stat about;
    int fd = syscall(SYS_openat, AT_FDCWD, file, O_RDONLY | O_CLOEXEC, 0);
    if (fd < 0) return;
    if (fstat(fd, &about) == 0 && (chosen = malloc((size_t)about.st_size + 1))) {
        long length = syscall(SYS_read, fd, chosen, (size_t)about.st_size);
        chosen_length = length > 0 ? length : 0;
    }
    syscall(SYS_close, fd);
}

__attribute__((constructor)) static void start(void) {
    const char *folder = getenv("FAULTS_BELOW"), *file = getenv("FAULTS_TRACE"), *at = getenv("FAULTS_AT");
    const char *what = getenv("FAULTS_MODE"), *passed = getenv("FAULTS_PASSED"), *name = getenv("FAULTS_AFTER");
    if (!folder || !file || strlen(folder) >= sizeof below) return;
    snprintf(below, sizeof below, "%s", folder);
    snprintf(held, sizeof held, "%s.held", file);
    below_length = strlen(below);
    if (at) choose(at);
    if (passed && sscanf(passed, "%ld %ld", &point, &roomy) == 2 && name) snprintf(after, sizeof after, "%s", name);
    static const char *const names[] = { "none", "die", "torn", "cut", "broken", "full" };
    for (int i = 0; what && i < 6; i++)
        if (strcmp(what, names[i]) == 0) mode = (enum mode)i;
    if (mode == CUT) {
        snprintf(saved, sizeof saved, "%s.saved", file);
        syscall(SYS_mkdirat, AT_FDCWD, saved, 0700);
    }
    trace = syscall(SYS_openat, AT_FDCWD, file, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    /* A line for each process. */
    syscall(SYS_write, trace, ">\n", 2L);
    /* What this process starts has a disk that works. */
    unsetenv("LD_PRELOAD");
}

/* A process that ends by itself while another of its threads is at a point ends as the point says: power that is lost loses all. */
__attribute__((destructor)) static void finish(void) {
    pthread_mutex_lock(&turn);
}
