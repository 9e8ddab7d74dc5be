package config

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/agnivade/levenshtein"
)

// Problem is one thing that is wrong, or doubtful, in a configuration file.
type Problem struct {
	File string `json:"file"`
	// Line and Column count from 1, in characters; 0 where the problem has no
	// place in the file.
	Line   int `json:"line,omitempty"`
	Column int `json:"column,omitempty"`
	// Path is the value's place in the document ("modules.tempSensor.kind").
	Path string `json:"path,omitempty"`
	// Message says what is wrong and what would be right.
	Message string `json:"message"`
}

// String gives the problem as compilers do: file:line:column: path: message.
func (p Problem) String() string {
	var b strings.Builder
	b.WriteString(p.File)
	if p.Line > 0 {
		fmt.Fprintf(&b, ":%d:%d", p.Line, p.Column)
	}
	b.WriteString(": ")
	if p.Path != "" {
		b.WriteString(p.Path + ": ")
	}
	b.WriteString(p.Message)
	return b.String()
}

// Error is an invalid configuration: everything that is wrong with it, in the
// order of the file.
type Error struct {
	Problems []Problem
}

// Error lists the problems, one a line.
func (e *Error) Error() string {
	lines := make([]string, len(e.Problems))
	for i, p := range e.Problems {
		lines[i] = p.String()
	}
	return strings.Join(lines, "\n")
}

// maxProblems bounds what one reading reports: a file that is wrong more often
// than this is wrong in one way many times.
const maxProblems = 50

// problems collects what is wrong.
type problems struct {
	list []Problem
}

func (p *problems) add(at position, path, format string, args ...any) {
	p.list = append(p.list, at.problem(path, fmt.Sprintf(format, args...)))
}

// sorted gives the problems in the order of the file, each once.
func (p *problems) sorted() []Problem {
	slices.SortStableFunc(p.list, func(a, b Problem) int {
		return cmp.Or(cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column))
	})
	list := slices.Compact(p.list)
	if len(list) > maxProblems {
		rest := len(list) - maxProblems
		list = append(list[:maxProblems:maxProblems], Problem{
			File:    list[0].File,
			Message: fmt.Sprintf("%d more problems are not shown", rest),
		})
	}
	return list
}

func (p *problems) err() error {
	if len(p.list) == 0 {
		return nil
	}
	return &Error{Problems: p.sorted()}
}

// position is where something stands in a document.
type position struct {
	file         string
	line, column int
}

func (p position) problem(path, message string) Problem {
	return Problem{File: p.file, Line: p.line, Column: p.column, Path: path, Message: message}
}

// suggest ends a message about the unknown name: with the known name that was
// probably meant, or with all of them.
func suggest(name string, known []string) string {
	if len(known) == 0 {
		return ""
	}
	if near := nearest(name, known); near != "" {
		return fmt.Sprintf("; did you mean %q?", near)
	}
	sorted := slices.Clone(known)
	slices.Sort(sorted)
	return "; known are " + strings.Join(sorted, ", ")
}

// nearest gives the known name that a slip of the fingers turns into name, or
// "" when none is near.
func nearest(name string, known []string) string {
	if len(name) > 100 {
		return ""
	}
	best, distance := "", 0
	for _, k := range known {
		d := levenshtein.ComputeDistance(fold(name), fold(k))
		if d <= max(1, len(k)/3) && (best == "" || d < distance) {
			best, distance = k, d
		}
	}
	return best
}

// fold makes spellings alike that differ in case, dashes and underscores only.
func fold(s string) string {
	return strings.ToLower(strings.NewReplacer("_", "", "-", "").Replace(s))
}
