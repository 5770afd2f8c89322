package cli

import (
	"strings"

	"charm.land/lipgloss/v2"
	"charm.land/lipgloss/v2/table"
)

// grid is a table of text.
type grid struct {
	head []string
	rows [][]string
	cut  int // column that is cut when the terminal is too narrow; -1 for none
}

func (g *grid) add(cells ...string) {
	for i := range cells {
		cells[i] = printable(cells[i])
	}
	g.rows = append(g.rows, cells)
}

// writeGrid prints a table: with lines on a terminal, in plain aligned columns
// elsewhere, where programs such as awk read it.
func (a *App) writeGrid(g *grid) error {
	if a.IsTTY && a.Width > 0 && g.cut >= 0 {
		g.fit(a.Width)
	}
	text := g.plain()
	if a.IsTTY {
		text = g.framed(a.Color)
	}
	_, err := a.Out.Write([]byte(text))
	return err
}

func (g *grid) widths() []int {
	widths := make([]int, len(g.head))
	for _, row := range append([][]string{g.head}, g.rows...) {
		for i, cell := range row {
			widths[i] = max(widths[i], lipgloss.Width(cell))
		}
	}
	return widths
}

// fit shortens the cells of the column that may be cut.
func (g *grid) fit(width int) {
	const border, ellipsis = 3, "..." // "│ " and a space per column
	total := 1
	widths := g.widths()
	for _, w := range widths {
		total += w + border
	}
	if total <= width {
		return
	}
	room := max(widths[g.cut]-(total-width), len(g.head[g.cut]), len(ellipsis))
	for _, row := range g.rows {
		if cell := []rune(row[g.cut]); lipgloss.Width(row[g.cut]) > room {
			row[g.cut] = string(cell[:min(len(cell), room-len(ellipsis))]) + ellipsis
		}
	}
}

func (g *grid) plain() string {
	var b strings.Builder
	widths := g.widths()
	rule := make([]string, len(widths))
	for i, w := range widths {
		rule[i] = strings.Repeat("-", w)
	}
	for _, row := range append([][]string{g.head, rule}, g.rows...) {
		var line strings.Builder
		for i, cell := range row {
			line.WriteString(cell + strings.Repeat(" ", widths[i]-lipgloss.Width(cell)+2))
		}
		b.WriteString(strings.TrimRight(line.String(), " ") + "\n")
	}
	return b.String()
}

func (g *grid) framed(color bool) string {
	cell := lipgloss.NewStyle().Padding(0, 1)
	head, frame := cell, lipgloss.NewStyle()
	if color {
		head, frame = head.Bold(true), frame.Faint(true)
	}
	return table.New().Border(lipgloss.RoundedBorder()).BorderStyle(frame).
		StyleFunc(func(row, _ int) lipgloss.Style {
			if row == table.HeaderRow {
				return head
			}
			return cell
		}).
		Headers(g.head...).Rows(g.rows...).Render() + "\n"
}
