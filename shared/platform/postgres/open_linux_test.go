package postgres_test

import (
	"errors"
	"net"
	"syscall"
	"testing"
)

// And we notice a server that vanished, before a caller that waits for its answer has
// lost all patience.
func TestOpen_NoticesAServerThatVanished(t *testing.T) {
	t.Parallel()
	db, _ := database(t)
	conn, err := db.Acquire(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Release()
	tcp, ok := conn.Conn().PgConn().Conn().(*net.TCPConn)
	if !ok {
		t.Skip("not plain TCP")
	}
	raw, err := tcp.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	for name, option := range map[string]struct{ option, want int }{
		"idle": {syscall.TCP_KEEPIDLE, 10}, "interval": {syscall.TCP_KEEPINTVL, 5}, "count": {syscall.TCP_KEEPCNT, 3},
	} {
		var got int
		var getErr error
		err := raw.Control(func(fd uintptr) { got, getErr = syscall.GetsockoptInt(int(fd), syscall.IPPROTO_TCP, option.option) })
		if err := errors.Join(err, getErr); err != nil || got != option.want {
			t.Errorf("%s: %d, want %d (%v)", name, got, option.want, err)
		}
	}
}
