package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// A fork builds, bears no name of ours, and its own tests pass: here those that
// need no servers.
func TestAForkBuildsUnderItsOwnName(t *testing.T) {
	t.Chdir("../..")
	for _, without := range [][]string{nil, {"lab"}} {
		cli.Module, cli.Name, cli.Without = "github.com/acme/pay", "pay", without
		cli.Dir = filepath.Join(t.TempDir(), "pay")
		if err := run(); err != nil {
			t.Fatal(err)
		}
		err := filepath.WalkDir(cli.Dir, func(path string, d os.DirEntry, err error) error {
			if err != nil || d.IsDir() {
				return err
			}
			text, err := os.ReadFile(path)
			if strings.Contains(strings.ToLower(string(text)), ourName) {
				t.Errorf("%s still speaks of %s", path, ourName)
			}
			return err
		})
		if err != nil {
			t.Error(err)
		}
		cmd := exec.CommandContext(t.Context(), "go", "test", "./shared/platform/money", "./shared/platform/config", "./shared/platform/fault", "./shared/platform/telemetry")
		cmd.Dir = cli.Dir
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("%v\n%s", err, out)
		}
	}
}

func TestANameThatCannotBeOneIsRefused(t *testing.T) {
	for _, name := range []string{"", "Pay", "my-pay", "1pay"} {
		cli.Module, cli.Name, cli.Dir = "github.com/acme/pay", name, filepath.Join(t.TempDir(), "pay")
		if run() == nil {
			t.Errorf("%q was taken", name)
		}
	}
}
