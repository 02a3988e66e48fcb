package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"time"

	"example.com/failwell/scripts/lab/experiments"
)

func masked(lines []string) []string {
	out := make([]string, len(lines))
	for i, line := range lines {
		out[i] = experiments.Masked(line)
	}
	return out
}

// shell runs a command in a directory. A variable, because tests of the check make
// many copies of the repository and need not build the same command in each.
var shell = func(dir, command string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute) // it may have to be compiled
	defer cancel()
	cmd := exec.CommandContext(ctx, "bash", "-c", command)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "COLUMNS=80", "LC_ALL=C.UTF-8")
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// runAgain runs a command that needs no server and takes a moment, and shows it with
// its output. Where nothing but ids and times has changed, the old text stays.
func (s source) runAgain(command string, old []string) ([]string, error) {
	out, err := shell(s.root, command)
	if err != nil {
		return nil, fmt.Errorf("%s: %w\n%s", command, err, out)
	}
	block := []string{"```console", "$ " + command}
	block = append(block, strings.Split(strings.TrimRight(out, "\n"), "\n")...)
	for i, line := range block {
		block[i] = strings.TrimRight(line, " ")
	}
	block = append(block, "```")
	if slices.Equal(masked(block), masked(old)) {
		return old, nil
	}
	return block, nil
}

// notRun lists the blocks that show a command with its output and are not run again.
func notRun(path, text string) (gaps []string) {
	lines := strings.Split(text, "\n")
	for i, line := range lines {
		if line == "```console" && (i == 0 || !strings.HasPrefix(lines[i-1], "<!-- run ")) {
			gaps = append(gaps, fmt.Sprintf("%s:%d: no command runs this again: put <!-- run command --> before it and %s after it, or show it without console", path, i+1, blockEnd))
		}
	}
	return gaps
}
