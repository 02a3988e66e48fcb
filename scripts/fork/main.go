// Command fork copies this repository under another name, to start a real service
// from: the module is renamed, the project too, and what the new one does not want
// can be left behind.
package main

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/alecthomas/kong"
)

// The names that are exchanged.
const (
	ourModule = "example.com/failwell"
	ourName   = "failwell"
)

var cli struct {
	Module  string   `help:"The new module's path: github.com/acme/pay."`
	Name    string   `help:"The project's new name, in small letters: it becomes part of metrics, exchanges and images."`
	Dir     string   `help:"Where to put it. Default: beside this repository, under the new name." type:"path"`
	Without []string `help:"What to leave behind, separated by commas: lab, demo, bench, e2e, containers, a service, a pattern. See docs/fork.md."`
}

func main() {
	kong.Parse(&cli, kong.Name("fork"), kong.UsageOnError())
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "fork:", err)
		os.Exit(1)
	}
}

var (
	validModule = regexp.MustCompile(`^[a-z0-9-]+(\.[a-z0-9-]+)+(/[A-Za-z0-9][A-Za-z0-9._~-]*)+$`)
	validName   = regexp.MustCompile(`^[a-z][a-z0-9]*$`)
)

// check says in one line what is wrong with what was asked for.
func check() error {
	switch {
	case cli.Module == "" || cli.Name == "":
		return errors.New("say what it is to be called: make fork MODULE=github.com/acme/pay NAME=pay")
	case !validModule.MatchString(cli.Module):
		return fmt.Errorf("MODULE=%s is not the path of a module, such as github.com/acme/pay", cli.Module)
	case !validName.MatchString(cli.Name):
		return fmt.Errorf("NAME=%s must be small letters and digits, a letter first", cli.Name)
	case strings.Contains(cli.Module, ourModule) || strings.Contains(cli.Name, ourName):
		return errors.New("MODULE and NAME must differ from ours")
	}
	for _, part := range cli.Without {
		if _, pattern := decisions[part]; !pattern && !isOf(parts, part) {
			return fmt.Errorf("WITHOUT=%s: there is no %q to leave behind, only %s", strings.Join(cli.Without, ","), part, strings.Join(slices.Sorted(maps.Keys(parts)), ", "))
		}
	}
	if left := leftServices(withAll(cli.Without)); len(left) == len(services) {
		return fmt.Errorf("WITHOUT=%s: one service must stay", strings.Join(cli.Without, ","))
	}
	return nil
}

func run() error {
	if err := check(); err != nil {
		return err
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
	without := withAll(cli.Without)
	kept, err := keep(files, without)
	if err != nil {
		return err
	}
	c := copier{kept: kept, renamed: strings.NewReplacer(
		ourModule, cli.Module,
		strings.ToUpper(ourName), strings.ToUpper(cli.Name),
		strings.ToUpper(ourName[:1])+ourName[1:], strings.ToUpper(cli.Name[:1])+cli.Name[1:],
		ourName, cli.Name,
	)}
	for file := range kept {
		if err := c.copy(file, filepath.Join(dir, file)); err != nil {
			return err
		}
	}
	if !c.here("README.md") {
		if err := os.WriteFile(filepath.Join(dir, "README.md"), []byte(c.readme()), 0o644); err != nil { //nolint:gosec // documentation
			return err
		}
	}
	commands := [][]string{{"go", "mod", "tidy"}, {"gofmt", "-w", "services", "shared", "scripts"}, {"go", "build", "./..."}, {"go", "vet", "./..."}}
	if c.here("scripts/catalogue/main.go") {
		commands = append(commands, []string{"go", "run", "./scripts/catalogue", "generate"}) // the new name has moved columns
	}
	for _, command := range commands {
		cmd := exec.Command(command[0], command[1:]...) //nolint:gosec,noctx // our own list
		cmd.Dir = dir
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("%s in the copy: %w\n%s", strings.Join(command, " "), err, out)
		}
	}
	if isReduced(without) {
		if err := showOps(dir); err != nil {
			return err
		}
	}
	fmt.Printf("%d files copied to %s as module %s; it builds.\n", len(kept), dir, cli.Module)
	if more := slices.DeleteFunc(slices.Clone(without), func(name string) bool { return slices.Contains(cli.Without, name) }); len(more) > 0 {
		slices.Sort(more)
		fmt.Printf("Left behind too, for want of the rest: %s.\n", strings.Join(more, ", "))
	}
	for _, end := range open(kept, without) {
		fmt.Println("Yours to write:", end)
	}
	fmt.Printf("Next: cd %s && git init && make test\n", dir)
	return nil
}

var opsHelp = regexp.MustCompile("(?s)```console\n\\$ go run ./scripts/ops --help\n(.*?)```")

// showOps puts into the runbook of the copy what its commands say of themselves.
func showOps(dir string) error {
	page := filepath.Join(dir, runbook)
	text, err := os.ReadFile(page) //nolint:gosec // of the copy
	if err != nil {
		return err
	}
	cmd := exec.Command("go", "run", "./scripts/ops", "--help") //nolint:noctx // over in seconds
	cmd.Dir = dir
	says, err := cmd.Output()
	if err != nil {
		return fmt.Errorf("scripts/ops in the copy: %w", err)
	}
	shown := "```console\n$ go run ./scripts/ops --help\n" + string(says) + "```"
	return os.WriteFile(page, []byte(opsHelp.ReplaceAllLiteralString(string(text), shown)), 0o644) //nolint:gosec // documentation
}

// tracked lists the repository's files, also those that git does not know yet. Where
// there is no git, it is everything but what builds and runs leave behind.
func tracked() ([]string, error) {
	out, err := exec.Command("git", "ls-files", "--cached", "--others", "--exclude-standard", "--deduplicate").Output() //nolint:noctx // over in milliseconds
	if err == nil {
		return slices.DeleteFunc(strings.Fields(string(out)), func(file string) bool { _, err := os.Stat(file); return err != nil }), nil
	}
	var files []string
	err = filepath.WalkDir(".", func(path string, d fs.DirEntry, err error) error {
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
