package testenv

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
)

// Ports are taken from below the range from which the kernel serves outgoing
// connections; above, a port can be lost to one while its server is down.
const (
	lowestPort  = 20000
	highestPort = 32000
)

// HoldPort finds a free loopback port and holds it for this process, also while
// nobody listens on it: a file lock keeps other processes of ours away, so that
// a server can be killed and come back at the same address. release gives it up.
func HoldPort() (port int, release func(), err error) {
	dir := filepath.Join(os.TempDir(), "failwell-ports")
	if err := os.MkdirAll(dir, 0o1777); err != nil {
		return 0, nil, fmt.Errorf("testenv: ports: %w", err)
	}
	_ = os.Chmod(dir, 0o1777) // for other users; fails when one of them made it, who has done this already
	for range 200 {
		port := lowestPort + rand.IntN(highestPort-lowestPort) //nolint:gosec // avoiding collisions needs no secrecy
		file, err := os.OpenFile(filepath.Join(dir, strconv.Itoa(port)), os.O_CREATE|os.O_RDWR, 0o666)
		if err != nil {
			continue // another user's file
		}
		if syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB) != nil || !free(port) {
			_ = file.Close()
			continue
		}
		return port, func() { _ = file.Close() }, nil
	}
	return 0, nil, errors.New("testenv: no free loopback port found")
}

func free(port int) bool {
	l, err := net.Listen("tcp", "127.0.0.1:"+strconv.Itoa(port)) //nolint:noctx // returns at once
	if err != nil {
		return false
	}
	return l.Close() == nil
}
