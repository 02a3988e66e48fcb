package main

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"strconv"
	"strings"
	"unicode"
)

// command is a command as its declaration has it.
type command struct {
	commands map[string]*command
	flags    map[string]bool
	args     bool // it takes arguments
}

// declared reads the declaration of a command: the variable cli of its package main.
// nil where there is none.
func declared(root, dir string) (*command, error) {
	files, err := parsedDir(filepath.Join(root, dir))
	if err != nil {
		return nil, err
	}
	if len(files) == 0 {
		return nil, fmt.Errorf("go run: no command ./%s", filepath.ToSlash(dir))
	}
	for _, file := range files {
		for _, d := range file.Decls {
			g, ok := d.(*ast.GenDecl)
			if !ok || g.Tok != token.VAR {
				continue
			}
			for _, spec := range g.Specs {
				v := spec.(*ast.ValueSpec)
				if s, ok := v.Type.(*ast.StructType); ok && v.Names[0].Name == "cli" {
					return fields(root, file, files, s)
				}
			}
		}
	}
	return nil, nil
}

func parsedDir(dir string) (files []*ast.File, err error) {
	names, err := filepath.Glob(filepath.Join(dir, "*.go"))
	if err != nil {
		return nil, err
	}
	for _, name := range names {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		file, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.SkipObjectResolution)
		if err != nil {
			return nil, err
		}
		files = append(files, file)
	}
	return files, nil
}

// fields reads a struct as the library for command lines does.
func fields(root string, file *ast.File, files []*ast.File, s *ast.StructType) (*command, error) {
	c := &command{commands: map[string]*command{}, flags: map[string]bool{}}
	for _, f := range s.Fields.List {
		var tag reflect.StructTag
		if f.Tag != nil {
			text, err := strconv.Unquote(f.Tag.Value)
			if err != nil {
				return nil, err
			}
			tag = reflect.StructTag(text)
		}
		_, isCommand := tag.Lookup("cmd")
		_, isArgument := tag.Lookup("arg")
		_, isEmbedded := tag.Lookup("embed")
		c.args = c.args || isArgument
		for _, ident := range f.Names {
			name := kebab(ident.Name)
			if given := tag.Get("name"); given != "" {
				name = given
			}
			switch {
			case isCommand:
				sub, err := structOf(root, file, files, f.Type)
				if err != nil {
					return nil, err
				}
				c.commands[name] = sub
			case !isArgument && !isEmbedded:
				c.flags[name] = true
			}
		}
		if len(f.Names) == 0 || isEmbedded {
			sub, err := structOf(root, file, files, f.Type)
			if err != nil {
				return nil, err
			}
			for flag := range sub.flags {
				c.flags[flag] = true
			}
		}
	}
	return c, nil
}

// structOf finds the struct that a field's type names: here, in this package, or in
// another of this module.
func structOf(root string, file *ast.File, files []*ast.File, t ast.Expr) (*command, error) {
	switch t := t.(type) {
	case *ast.StructType:
		return fields(root, file, files, t)
	case *ast.Ident:
		for _, f := range files {
			for _, d := range f.Decls {
				g, ok := d.(*ast.GenDecl)
				if !ok || g.Tok != token.TYPE {
					continue
				}
				for _, spec := range g.Specs {
					ts := spec.(*ast.TypeSpec)
					if s, ok := ts.Type.(*ast.StructType); ok && ts.Name.Name == t.Name {
						return fields(root, f, files, s)
					}
				}
			}
		}
	case *ast.SelectorExpr:
		pkg, _ := t.X.(*ast.Ident)
		for _, i := range file.Imports {
			path, err := strconv.Unquote(i.Path.Value)
			if err != nil {
				return nil, err
			}
			dir, ours := strings.CutPrefix(path, "example.com/failwell/")
			if pkg == nil || !ours || filepath.Base(path) != pkg.Name {
				continue
			}
			others, err := parsedDir(filepath.Join(root, dir))
			if err != nil {
				return nil, err
			}
			return structOf(root, file, others, t.Sel)
		}
	}
	return &command{commands: map[string]*command{}, flags: map[string]bool{}}, nil
}

func kebab(name string) string {
	var b strings.Builder
	for i, r := range name {
		if unicode.IsUpper(r) && i > 0 && !unicode.IsUpper(rune(name[i-1])) {
			b.WriteByte('-')
		}
		b.WriteRune(unicode.ToLower(r))
	}
	return b.String()
}

// eachSource calls do with every Go file of services and shared that is not a test.
func eachSource(root string, do func(file, text string)) error {
	for _, dir := range []string{"services", "shared"} {
		err := filepath.WalkDir(filepath.Join(root, dir), func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() || filepath.Ext(path) != ".go" || strings.HasSuffix(path, "_test.go") {
				return err
			}
			text, err := os.ReadFile(path)
			do(path, string(text))
			return err
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// commandLine is a command that a page shows.
type commandLine struct {
	line  int
	words []string
}

var span = regexp.MustCompile("`([^`]+)`")

// commandLines are the lines of blocks that are no code of ours, and the spans in the
// text. A line of more than one command is split.
func commandLines(text string) (all []commandLine) {
	language := ""
	for i, line := range strings.Split(text, "\n") {
		switch {
		case strings.HasPrefix(line, "```") && language == "":
			language = strings.TrimSpace(strings.TrimPrefix(line, "```")) + "."
		case strings.HasPrefix(line, "```"):
			language = ""
		case language == "." || language == "console." || language == "sh.":
			all = append(all, split(i+1, strings.TrimPrefix(line, "$ "))...)
		case language == "":
			for _, m := range span.FindAllStringSubmatch(line, -1) {
				all = append(all, split(i+1, m[1])...)
			}
		}
	}
	return all
}

var word = regexp.MustCompile(`'[^']*'|"[^"]*"|[;|&]+|[^\s;|&'"]+`)

func split(line int, text string) (all []commandLine) {
	current := commandLine{line: line}
	for _, w := range word.FindAllString(text, -1) {
		if strings.Trim(w, ";|&") == "" {
			all, current = append(all, current), commandLine{line: line}
			continue
		}
		current.words = append(current.words, strings.Trim(w, `'"`))
	}
	return append(all, current)
}
