package testenv

import "syscall"

// dieWithUs has the kernel kill the child when the thread that started it ends, and so
// when we die, however we die.
func dieWithUs(a *syscall.SysProcAttr) { a.Pdeathsig = syscall.SIGKILL }
