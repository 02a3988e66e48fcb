//go:build unix && !linux

package testenv

import "syscall"

// dieWithUs cannot be had here: after a SIGKILL of ours the children go on.
func dieWithUs(*syscall.SysProcAttr) {}
