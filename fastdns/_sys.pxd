# SPDX-License-Identifier: Apache-2.0
#
# Every foreign declaration of fastdns: libc, sockets, Linux, and the atomics of _atomic.h.
#
# Strategy: one group per header, only the names and struct fields that are used. Nothing here is
# ours, so nothing here can be wrong but a signature; the rest of the tree declares no foreign name.

from cpython.ref cimport PyObject
from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t, int64_t

cdef extern from "_atomic.h" nogil:
    uint64_t fd_load_relaxed(const uint64_t *p) noexcept
    uint64_t fd_load_acquire(const uint64_t *p) noexcept
    void fd_store_relaxed(uint64_t *p, uint64_t v) noexcept
    void fd_store_release(uint64_t *p, uint64_t v) noexcept
    uint64_t fd_add_relaxed(uint64_t *p, uint64_t v) noexcept
    uint64_t fd_add_acq_rel(uint64_t *p, uint64_t v) noexcept
    bint fd_cas(uint64_t *p, uint64_t expected, uint64_t desired) noexcept
    uint32_t fd_load_acquire32(const uint32_t *p) noexcept
    uint32_t fd_load_relaxed32(const uint32_t *p) noexcept
    void fd_store_release32(uint32_t *p, uint32_t v) noexcept
    uint32_t fd_swap32(uint32_t *p, uint32_t v) noexcept
    void fd_fence_acquire() noexcept
    void fd_fence_release() noexcept
    void fd_fence_seq_cst() noexcept
    void fd_bump(uint64_t *p, uint64_t by) noexcept

cdef extern from "<errno.h>" nogil:
    int errno
    enum:
        EAGAIN
        EINTR
        EINVAL
        EIO
        EMFILE
        ENFILE
        ENOBUFS
        ENOMEM
        ENOPROTOOPT
        EINPROGRESS
        ECONNREFUSED
        ECONNABORTED
        ECONNRESET
        EPIPE
        EPERM
        EACCES
        EADDRINUSE
        EADDRNOTAVAIL
        ENETUNREACH
        EHOSTUNREACH
        ETIMEDOUT
        EMSGSIZE

cdef extern from "<string.h>" nogil:
    void *memcpy(void *dst, const void *src, size_t n) noexcept
    void *memmove(void *dst, const void *src, size_t n) noexcept
    void *memset(void *dst, int c, size_t n) noexcept
    int memcmp(const void *a, const void *b, size_t n) noexcept
    void *memmem(const void *in_, size_t n, const void *what, size_t m) noexcept
    size_t strlen(const char *s) noexcept

cdef extern from * nogil:
    int c_clzll "__builtin_clzll"(unsigned long long v) noexcept
    const char *C_COMPILER "__VERSION__"

cdef extern from "<endian.h>" nogil:
    uint64_t le64toh(uint64_t v) noexcept

cdef extern from "<stdlib.h>" nogil:
    void *malloc(size_t n) noexcept
    void *calloc(size_t n, size_t size) noexcept
    void *realloc(void *p, size_t n) noexcept
    void free(void *p) noexcept

cdef extern from "<unistd.h>" nogil:
    ssize_t c_read "read"(int fd, void *buf, size_t n) noexcept
    ssize_t c_pread "pread"(int fd, void *buf, size_t n, long at) noexcept
    ssize_t c_write "write"(int fd, const void *buf, size_t n) noexcept
    int c_close "close"(int fd) noexcept

cdef extern from "Python.h":
    # Runs a coroutine to its next pause: 1 it paused, 0 it returned; *result is a new reference in both cases.
    int PyIter_Send(object iterator, object value, PyObject **result) except -1

cdef extern from "<time.h>" nogil:
    struct timespec:
        long tv_sec
        long tv_nsec
    struct itimerspec:
        timespec it_interval
        timespec it_value
    int c_nanosleep "nanosleep"(const timespec *t, timespec *left) noexcept
    enum:
        CLOCK_MONOTONIC
        CLOCK_BOOTTIME
        CLOCK_REALTIME
        CLOCK_PROCESS_CPUTIME_ID
        CLOCK_THREAD_CPUTIME_ID
    int clock_gettime(int clock, timespec *ts) noexcept

cdef extern from "<arpa/inet.h>" nogil:
    uint16_t htons(uint16_t v) noexcept
    uint16_t ntohs(uint16_t v) noexcept
    uint32_t htonl(uint32_t v) noexcept
    uint32_t ntohl(uint32_t v) noexcept
    const char *inet_ntop(int family, const void *address, char *out, unsigned int n) noexcept

cdef extern from "<netinet/in.h>" nogil:
    struct in_addr:
        uint32_t s_addr
    struct in6_addr:
        uint8_t s6_addr[16]
    struct sockaddr:
        uint16_t sa_family
    struct sockaddr_in:
        uint16_t sin_family
        uint16_t sin_port
        in_addr sin_addr
    struct sockaddr_in6:
        uint16_t sin6_family
        uint16_t sin6_port
        uint32_t sin6_flowinfo
        in6_addr sin6_addr
        uint32_t sin6_scope_id
    struct in_pktinfo:
        int ipi_ifindex
        in_addr ipi_spec_dst
        in_addr ipi_addr
    struct in6_pktinfo:
        in6_addr ipi6_addr
        unsigned int ipi6_ifindex
    enum:
        IPPROTO_IP
        IPPROTO_IPV6
        IPPROTO_TCP
        IPPROTO_UDP
        IP_PKTINFO
        IPV6_PKTINFO

cdef extern from "<netinet/tcp.h>" nogil:
    enum:
        TCP_NODELAY

cdef extern from "<sys/socket.h>" nogil:
    ctypedef unsigned int socklen_t
    struct iovec:
        void *iov_base
        size_t iov_len
    struct msghdr:
        void *msg_name
        socklen_t msg_namelen
        iovec *msg_iov
        size_t msg_iovlen
        void *msg_control
        size_t msg_controllen
        int msg_flags
    struct mmsghdr:
        msghdr msg_hdr
        unsigned int msg_len
    struct cmsghdr:
        size_t cmsg_len
        int cmsg_level
        int cmsg_type
    enum:
        AF_INET
        AF_INET6
        SOCK_DGRAM
        SOCK_STREAM
        SOCK_NONBLOCK
        SOCK_CLOEXEC
        SOL_SOCKET
        SO_ERROR
        SO_RCVBUF
        SO_SNDBUF
        SO_RCVBUFFORCE
        SO_SNDBUFFORCE
        SO_REUSEADDR
        SHUT_WR
        MSG_DONTWAIT
        MSG_WAITFORONE
        MSG_NOSIGNAL
        MSG_TRUNC
    cmsghdr *CMSG_FIRSTHDR(msghdr *m) noexcept
    cmsghdr *CMSG_NXTHDR(msghdr *m, cmsghdr *c) noexcept
    uint8_t *CMSG_DATA(cmsghdr *c) noexcept
    size_t CMSG_SPACE(size_t n) noexcept
    size_t CMSG_LEN(size_t n) noexcept
    int c_socket "socket"(int domain, int type, int protocol) noexcept
    int c_connect "connect"(int fd, const sockaddr *sa, socklen_t n) noexcept
    int c_bind "bind"(int fd, const sockaddr *sa, socklen_t n) noexcept
    int c_getsockname "getsockname"(int fd, sockaddr *sa, socklen_t *n) noexcept
    int c_getpeername "getpeername"(int fd, sockaddr *sa, socklen_t *n) noexcept
    int c_setsockopt "setsockopt"(int fd, int level, int name, const void *v, socklen_t n) noexcept
    int c_getsockopt "getsockopt"(int fd, int level, int name, void *v, socklen_t *n) noexcept
    int c_accept4 "accept4"(int fd, sockaddr *sa, socklen_t *n, int flags) noexcept
    int c_shutdown "shutdown"(int fd, int how) noexcept
    ssize_t c_recv "recv"(int fd, void *buf, size_t n, int flags) noexcept
    ssize_t c_send "send"(int fd, const void *buf, size_t n, int flags) noexcept
    ssize_t c_sendmsg "sendmsg"(int fd, const msghdr *m, int flags) noexcept
    int recvmmsg(int fd, mmsghdr *v, unsigned int n, int flags, timespec *timeout) noexcept
    int sendmmsg(int fd, mmsghdr *v, unsigned int n, int flags) noexcept

cdef extern from "<sys/epoll.h>" nogil:
    ctypedef union epoll_data_t:
        uint64_t u64
    struct epoll_event:
        uint32_t events
        epoll_data_t data
    enum:
        EPOLL_CTL_ADD
        EPOLL_CTL_MOD
        EPOLL_CTL_DEL
        EPOLLIN
        EPOLLOUT
        EPOLLERR
        EPOLLHUP
        EPOLLRDHUP
        EPOLLET
        EPOLL_CLOEXEC
    int epoll_create1(int flags) noexcept
    int epoll_ctl(int ep, int op, int fd, epoll_event *ev) noexcept
    int epoll_wait(int ep, epoll_event *ev, int n, int timeout_ms) noexcept

cdef extern from "<sys/syscall.h>" nogil:
    enum:
        SYS_epoll_pwait2        # Linux 5.11; a call by number, because not every libc has the function
        SYS_timer_create        # by number: old libcs have them in another library
        SYS_timer_settime
        SYS_timer_delete
    long c_syscall "syscall"(long number, ...) noexcept

cdef extern from "<poll.h>" nogil:
    struct pollfd:
        int fd
        short events
        short revents
    enum:
        POLLOUT
    int c_poll "poll"(pollfd *p, unsigned long n, int timeout_ms) noexcept

cdef extern from "<sys/random.h>" nogil:
    ssize_t getrandom(void *buf, size_t n, unsigned int flags) noexcept

cdef extern from "<sys/mman.h>" nogil:
    enum:
        PROT_NONE
        PROT_READ
        PROT_WRITE
        MAP_SHARED
        MAP_PRIVATE
        MAP_FIXED
        MAP_ANONYMOUS
        MAP_POPULATE
        MAP_NORESERVE
        MADV_DONTNEED
    void *mmap(void *addr, size_t n, int prot, int flags, int fd, int64_t off) noexcept
    int munmap(void *addr, size_t n) noexcept
    int madvise(void *addr, size_t n, int advice) noexcept

cdef extern from "<pthread.h>" nogil:
    ctypedef struct sigset_t:
        pass
    int pthread_sigmask(int how, const sigset_t *set, sigset_t *old) noexcept

cdef extern from "<signal.h>" nogil:
    enum:
        SIG_BLOCK
        SIGEV_THREAD_ID
    int sigfillset(sigset_t *set) noexcept
    struct sigevent:
        int sigev_notify
        int sigev_signo
        int sigev_thread "_sigev_un._tid"

cdef enum:
    # <linux/udp.h>, absent from old libc headers
    UDP_SEGMENT = 103
    UDP_GRO = 104
    SOL_UDP = 17

cdef extern from "<sys/prctl.h>" nogil:
    enum:
        PR_SET_CHILD_SUBREAPER
    int prctl(int option, unsigned long a, unsigned long b, unsigned long c, unsigned long d) noexcept
