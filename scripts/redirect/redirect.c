/* redirect FILE PROGRAM [ARGUMENT...]: become PROGRAM with stdout and stderr going to FILE, both as one stream.
 *
 * It is the first thing that starts in a run's container, so it needs nothing of the image: no libc, no shell. The
 * program is looked for on PATH as execvp(3) does; its variables are left as they are. Exit codes as a shell's: 127
 * when there is no such program, 126 when it cannot be started. `python scripts/redirect/build.py` compiles it.
 */

typedef long word;

#define EACCES 13
#define ENOENT 2
#define ENOTDIR 20
#define O_WRONLY 1
#define AT_FDCWD (-100)
#define PATH_BYTES 4096

#if defined(__x86_64__)
enum { SYS_write = 1, SYS_close = 3, SYS_execve = 59, SYS_exit = 60, SYS_openat = 257, SYS_dup3 = 292 };
static word call(word number, word a, word b, word c, word d) {
    word result;
    register word r10 __asm__("r10") = d;
    __asm__ volatile("syscall"
                     : "=a"(result)
                     : "a"(number), "D"(a), "S"(b), "d"(c), "r"(r10)
                     : "rcx", "r11", "memory");
    return result;
}
__asm__(".globl _start\n_start:\n xor %ebp, %ebp\n mov %rsp, %rdi\n and $-16, %rsp\n call run\n");
#elif defined(__aarch64__)
enum { SYS_dup3 = 24, SYS_openat = 56, SYS_close = 57, SYS_write = 64, SYS_exit = 93, SYS_execve = 221 };
static word call(word number, word a, word b, word c, word d) {
    register word x8 __asm__("x8") = number;
    register word x0 __asm__("x0") = a;
    register word x1 __asm__("x1") = b;
    register word x2 __asm__("x2") = c;
    register word x3 __asm__("x3") = d;
    __asm__ volatile("svc 0" : "+r"(x0) : "r"(x8), "r"(x1), "r"(x2), "r"(x3) : "memory");
    return x0;
}
__asm__(".globl _start\n_start:\n mov x29, xzr\n mov x30, xzr\n mov x0, sp\n bl run\n");
#else
#error "this processor has no entry here"
#endif

static word length(const char *text) {
    word count = 0;
    while (text[count]) {
        __asm__ volatile("");
        count++;
    }
    return count;
}

static void say(const char *text) { call(SYS_write, 2, (word)text, length(text), 0); }

static void leave(int code, const char *what, const char *whose) {
    say("[runctl] ");
    say(what);
    say(whose);
    say("\n");
    call(SYS_exit, code, 0, 0, 0);
    __builtin_unreachable();
}

static char path[PATH_BYTES];

__attribute__((used)) void run(word *stack) {
    word count = stack[0];
    char **arguments = (char **)(stack + 1);
    char **variables = arguments + count + 1;
    if (count < 3)
        leave(126, "usage: redirect FILE PROGRAM", "");
    word file = call(SYS_openat, AT_FDCWD, (word)arguments[1], O_WRONLY, 0);
    if (file < 0)
        leave(126, "the container cannot open its log ", arguments[1]);
    call(SYS_dup3, file, 1, 0, 0);
    call(SYS_dup3, file, 2, 0, 0);
    if (file > 2)
        call(SYS_close, file, 0, 0, 0);

    char *name = arguments[2];
    word size = length(name), error = ENOENT, is_path = 0;
    const char *rest = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
    for (char **each = variables; *each; each++)
        if ((*each)[0] == 'P' && (*each)[1] == 'A' && (*each)[2] == 'T' && (*each)[3] == 'H' && (*each)[4] == '=')
            rest = *each + 5;
    for (char *each = name; *each; each++)
        if (*each == '/')
            is_path = 1;
    if (is_path) {
        rest = 0;
        error = -call(SYS_execve, (word)name, (word)(arguments + 2), (word)variables, 0);
    }
    while (rest && size) {
        word used = 0;
        while (rest[used] && rest[used] != ':')
            used++;
        if (used + size + 2 <= PATH_BYTES) {
            for (word at = 0; at < used; at++)
                path[at] = rest[at];
            word start = used;
            if (used)
                path[start++] = '/';
            for (word at = 0; at <= size; at++)
                path[start + at] = name[at];
            word failed = -call(SYS_execve, (word)path, (word)(arguments + 2), (word)variables, 0);
            /* As execvp(3): one that may not be started is remembered, and another one looked for. */
            if (failed != ENOENT && failed != ENOTDIR) {
                error = failed;
                if (failed != EACCES)
                    break;
            }
        }
        rest = rest[used] ? rest + used + 1 : 0;
    }
    if (error == ENOENT && is_path && call(SYS_openat, AT_FDCWD, (word)name, 0, 0) >= 0)
        leave(127, "the program that its first line or its header names is not in the image: ", name);
    if (error == ENOENT || error == ENOTDIR)
        leave(127, "there is no program in the image: ", name);
    leave(126, "the program cannot be started: ", name);
}
