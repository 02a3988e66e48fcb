package testenv

import (
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"strconv"
)

// Ports are taken from below the range from which the kernel serves outgoing
// connections; above, a port can be lost to one while its server is down.
const (
	lowestPort  = 20000
	highestPort = 32000
)

// HoldPort finds a free loopback port and holds it for this process, also while
// no process listens on it: a file lock keeps other processes of ours away, so that
// a server can be killed and come back at the same address. release gives it up.
func HoldPort() (port int, release func(), err error) {
	dir := filepath.Join(os.TempDir(), "failwell-ports")
	// Of all users, as /tmp itself: they share the ports. The umask takes bits from
	// Mkdir, so they are given again; that fails when another user made it, who has
	// done this already.
	if err := os.Mkdir(dir, os.ModeSticky|0o777); err != nil && !errors.Is(err, fs.ErrExist) {
		return 0, nil, fmt.Errorf("testenv: ports: %w", err)
	}
	_ = os.Chmod(dir, os.ModeSticky|0o777)
	for range 200 {
		port := lowestPort + rand.IntN(highestPort-lowestPort) //nolint:gosec // avoiding collisions needs no secrecy
		file, err := Lock(filepath.Join(dir, strconv.Itoa(port)), false)
		if err != nil {
			continue // held, or made by another user whose umask lets no other user read it
		}
		release = func() { _ = file.Close() }
		if free(port) {
			return port, release, nil
		}
		release()
	}
	return 0, nil, errors.New("testenv: no free loopback port found")
}

// openLock opens a file for its lock, which needs no right to write; and it makes the
// file only where there is none, because Linux refuses to open another user's file in a
// sticky directory with O_CREATE.
func openLock(path string) (*os.File, error) {
	file, err := os.Open(path) //nolint:gosec // the path is ours
	if errors.Is(err, fs.ErrNotExist) {
		if file, err = os.OpenFile(path, os.O_CREATE|os.O_RDONLY, 0o644); err == nil { //nolint:gosec // for other users
			_ = file.Chmod(0o644)
		}
	}
	return file, err
}

// Lock locks a file until it is closed, or until this process ends. Without wait it fails
// at once when somebody else holds the lock.
func Lock(path string, wait bool) (*os.File, error) {
	file, err := openLock(path)
	if err != nil {
		return nil, err
	}
	if err := flock(file, wait); err != nil {
		_ = file.Close()
		return nil, err
	}
	return file, nil
}

func free(port int) bool {
	l, err := net.Listen("tcp", "127.0.0.1:"+strconv.Itoa(port)) //nolint:noctx // returns at once
	if err != nil {
		return false
	}
	return l.Close() == nil
}
