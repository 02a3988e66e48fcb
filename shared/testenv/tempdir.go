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
	turn, err := Lock(ours+".lock", true)
	if err != nil {
		return "", nil, err
	}
	defer turn.Close() //nolint:errcheck // closing gives up the lock
	old, _ := filepath.Glob(ours + "-*")
	for _, d := range old {
		if lock, err := Lock(filepath.Join(d, "lock"), false); err == nil {
			_ = os.RemoveAll(d)
			_ = lock.Close()
		}
	}
	if dir, err = os.MkdirTemp("", filepath.Base(ours)+"-"); err != nil {
		return "", nil, err
	}
	lock, err := Lock(filepath.Join(dir, "lock"), false)
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
