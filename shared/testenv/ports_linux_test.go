package testenv_test

import (
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"syscall"
	"testing"

	"example.com/failwell/shared/testenv"
)

// Users share the ports: a lock file that one has made, the others can lock.
func TestHoldPort_LockCanBeTakenByAnotherUser(t *testing.T) {
	t.Parallel()
	_, release, err := testenv.HoldPort()
	if err != nil {
		t.Fatal(err)
	}
	defer release()
	shared := filepath.Join(os.TempDir(), "failwell-ports")
	if info, err := os.Stat(shared); err != nil || info.Mode().Perm() != 0o777 || info.Mode()&os.ModeSticky == 0 {
		t.Errorf("%s: %v, %v; it must be as open as /tmp", shared, info.Mode(), err)
	}
	if os.Geteuid() != 0 {
		t.Skip("only root can be another user")
	}
	file, err := testenv.OpenLock(filepath.Join(shared, "of-a-test"))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()           //nolint:errcheck // nothing was written
	defer os.Remove(file.Name()) //nolint:errcheck // harmless if it stays

	// This thread alone becomes another user as far as files go. It is not unlocked,
	// so it ends with its goroutine.
	as := make(chan error)
	go func() {
		runtime.LockOSThread()
		err := errors.Join(syscall.Setfsgid(65534), syscall.Setfsuid(65534))
		var other *os.File
		if err == nil {
			other, err = testenv.OpenLock(file.Name())
		}
		if err == nil {
			err = syscall.Flock(int(other.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
			_ = other.Close()
		}
		as <- err
	}()
	if err := <-as; err != nil {
		t.Errorf("as another user: %v", err)
	}
}
