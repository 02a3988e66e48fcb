package testenv

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"
)

// dieWithUs has the kernel kill the child when the thread that started it ends, and so
// when we die, however we die.
func dieWithUs(a *syscall.SysProcAttr) { a.Pdeathsig = syscall.SIGKILL }

// children are the processes that a process has started.
func children(pid int) (pids []int) {
	text, _ := os.ReadFile(fmt.Sprintf("/proc/%[1]d/task/%[1]d/children", pid)) // it has ended
	for _, field := range strings.Fields(string(text)) {
		if child, err := strconv.Atoi(field); err == nil {
			pids = append(pids, child)
		}
	}
	return pids
}
