// Command fork copies this repository under another name, to start a real service
// from: the module is renamed, the project too, and what only teaches can be left
// behind.
package main

import (
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/alecthomas/kong"
)

// The names that are exchanged.
const (
	ourModule = "example.com/failwell"
	ourName   = "failwell"
)

var cli struct {
	Module  string   `required:"" help:"The new module's path: github.com/acme/pay."`
	Name    string   `required:"" help:"The project's new name, in small letters: it becomes part of metrics, exchanges and images."`
	Dir     string   `help:"Where to put it. Default: beside this repository, under the new name." type:"path"`
	Without []string `enum:"lab" help:"lab leaves the experiments, the sweep, the chaos, the demo, the catalogue and the patterns' pages behind."`
}

var validName = regexp.MustCompile(`^[a-z][a-z0-9]*$`)

func main() {
	kong.Parse(&cli, kong.Name("fork"), kong.UsageOnError())
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "fork:", err)
		os.Exit(1)
	}
}

func run() error {
	if !validName.MatchString(cli.Name) {
		return fmt.Errorf("the name %q must be small letters and digits", cli.Name)
	}
	dir := cli.Dir
	if dir == "" {
		dir = filepath.Join("..", cli.Name)
	}
	if entries, err := os.ReadDir(dir); err == nil && len(entries) > 0 {
		return fmt.Errorf("%s is there already, and not empty", dir)
	}
	files, err := tracked()
	if err != nil {
		return err
	}
	copied := 0
	for _, file := range files {
		if leftBehind(file) {
			continue
		}
		if err := copyFile(file, filepath.Join(dir, file)); err != nil {
			return err
		}
		copied++
	}
	for _, command := range [][]string{{"go", "mod", "tidy"}, {"gofmt", "-w", "services", "shared", "scripts"}, {"go", "build", "./..."}, {"go", "vet", "./..."}} {
		cmd := exec.Command(command[0], command[1:]...) //nolint:gosec,noctx // our own list
		cmd.Dir = dir
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("%s in the copy: %w\n%s", strings.Join(command, " "), err, out)
		}
	}
	fmt.Printf("%d files copied to %s as module %s; it builds.\nNext: cd %s && git init && make test\n", copied, dir, cli.Module, dir)
	return nil
}

// tracked lists the repository's files. Where there is no git, it is everything but
// what builds and runs leave behind.
func tracked() ([]string, error) {
	if out, err := exec.Command("git", "ls-files").Output(); err == nil { //nolint:noctx // over in milliseconds
		return strings.Fields(string(out)), nil
	}
	var files []string
	err := filepath.WalkDir(".", func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && (d.Name() == ".git" || d.Name() == ".run" || d.Name() == "bin") {
			return filepath.SkipDir
		}
		if d.Type().IsRegular() {
			files = append(files, filepath.ToSlash(path))
		}
		return nil
	})
	return files, err
}

// teaching is what only teaches, by its beginning.
var teaching = []string{
	"scripts/lab/", "scripts/bench/", "scripts/catalogue/", "scripts/demo/", "scripts/e2e/", "scripts/large/", "scripts/fork/",
	"docs/patterns/", "docs/sweep.md", "docs/track-record.md", "docs/holes.md", "docs/choosing.md", "docs/fork.md", "README.md",
}

func leftBehind(file string) bool {
	if len(cli.Without) == 0 {
		return false
	}
	for _, beginning := range teaching {
		// What remains links to it, so the pages of a fork are its own to write.
		if strings.HasPrefix(file, beginning) && file != "scripts/lab.env" {
			return true
		}
	}
	return strings.HasPrefix(file, "docs/") || file == ".ci/run"
}

// copyFile copies a file with the names exchanged.
func copyFile(from, to string) error {
	text, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	info, err := os.Stat(from)
	if err != nil {
		return err
	}
	renamed := strings.NewReplacer(
		ourModule, cli.Module,
		strings.ToUpper(ourName), strings.ToUpper(cli.Name),
		strings.ToUpper(ourName[:1])+ourName[1:], strings.ToUpper(cli.Name[:1])+cli.Name[1:],
		ourName, cli.Name,
	).Replace(string(text))
	if from == "Makefile" && len(cli.Without) > 0 {
		renamed = withoutTargets(renamed)
	}
	if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil { //nolint:gosec // source code
		return err
	}
	return os.WriteFile(to, []byte(renamed), info.Mode().Perm())
}

// withoutTargets drops the targets whose commands were left behind.
func withoutTargets(makefile string) string {
	var kept []string
	for _, block := range strings.Split(makefile, "\n.PHONY: ") {
		drop := false
		for _, beginning := range teaching {
			drop = drop || strings.Contains(block, "./"+strings.TrimSuffix(beginning, "/")+" ") || strings.Contains(block, "./"+strings.TrimSuffix(beginning, "/")+"\n")
		}
		if !drop {
			kept = append(kept, block)
		}
	}
	return strings.TrimRight(strings.Join(kept, "\n.PHONY: "), "\n") + "\n"
}
