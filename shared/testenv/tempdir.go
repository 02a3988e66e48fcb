package testenv

import (
	"fmt"
	"os"
	"path/filepath"
)

// tempDir makes a directory that is ours as long as we live, and sweeps up those
// of processes that were killed. A file lock tells the living from the dead; a
// process id could have been given to somebody else.
func tempDir() (dir string, remove func(), err error) {
	// One at a time: between the making of a directory and its lock it looks dead.
	// Each user has names of its own: another's files cannot be opened, or removed.
	ours := filepath.Join(os.TempDir(), fmt.Sprintf("failwell-env-%d", os.Getuid()))
	turn, err := openLock(ours + ".lock")
	if err != nil {
		return "", nil, err
	}
	defer turn.Close() //nolint:errcheck // closing gives up the lock
	if err := flock(turn, true); err != nil {
		return "", nil, err
	}
	old, _ := filepath.Glob(ours + "-*")
	for _, d := range old {
		if lock, err := TryLock(filepath.Join(d, "lock")); err == nil {
			_ = os.RemoveAll(d)
			_ = lock.Close()
		}
	}
	if dir, err = os.MkdirTemp("", filepath.Base(ours)+"-"); err != nil {
		return "", nil, err
	}
	lock, err := TryLock(filepath.Join(dir, "lock"))
	if err != nil {
		return "", nil, err
	}
	remove = func() {
		_ = os.RemoveAll(dir)
		_ = lock.Close()
	}
	// The servers run as other users and must be able to pass through.
	return dir, remove, os.Chmod(dir, 0o755) //nolint:gosec // nothing secret lies in it
}
