package warehouse

import (
	"fmt"
	"strings"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
)

// maxWords bounds the words a table remembers for its LowCardinality columns; a channel may send anything.
const maxWords = 10_000

// words are values of LowCardinality columns: each an interface made once, since the driver takes nothing else.
type words []any

// table collects the rows of one ClickHouse table, column by column, until they are sent.
type table struct {
	name    string
	names   []string
	columns []any // pointers to the slices that hold the values
	known   map[string]any
	rows    int
}

// column adds a column; slice points to its values.
func (t *table) column(name string, slice any) {
	t.names = append(t.names, name)
	t.columns = append(t.columns, slice)
}

// word returns s as the driver takes it.
func (t *table) word(s string) any {
	if w, ok := t.known[s]; ok {
		return w
	}
	if t.known == nil || len(t.known) >= maxWords {
		t.known = map[string]any{}
	}
	s = strings.Clone(s) // not to keep the record it is part of
	t.known[s] = s
	return t.known[s]
}

// insert is the statement that takes the rows.
func (t *table) insert() string {
	return "INSERT INTO " + t.name + " (" + strings.Join(t.names, ", ") + ")"
}

// appendTo gives the rows to a prepared batch. It fails on a column whose type in ClickHouse is another, which sending
// again cannot mend.
func (t *table) appendTo(b driver.Batch) error {
	columns := b.Columns()
	if len(columns) != len(t.columns) {
		return fmt.Errorf("table %s takes %d columns, not %d", t.name, len(columns), len(t.columns))
	}
	for i, slice := range t.columns {
		column := columns[i]
		var err error
		switch v := slice.(type) {
		case *words:
			err = appendRows(*v, column.AppendRow)
		case *[][]string:
			err = appendRows(*v, column.AppendRow)
		case *[][]int32:
			err = appendRows(*v, column.AppendRow)
		case *[][]int64:
			err = appendRows(*v, column.AppendRow)
		case *[]map[string]string:
			err = appendRows(*v, column.AppendRow)
		case *[][]any:
			err = appendRows(*v, column.AppendRow)
		case *[]string:
			_, err = column.Append(*v)
		case *[]int32:
			_, err = column.Append(*v)
		case *[]int64:
			_, err = column.Append(*v)
		case *[]float64:
			_, err = column.Append(*v)
		case *[]bool:
			_, err = column.Append(*v)
		case *[]time.Time:
			_, err = column.Append(*v)
		default:
			err = fmt.Errorf("no way to send a %T", slice)
		}
		if err != nil {
			return fmt.Errorf("column %s.%s: %w", t.name, t.names[i], err)
		}
	}
	return nil
}

func appendRows[T any](values []T, row func(any) error) error {
	for i := range values {
		if err := row(values[i]); err != nil {
			return err
		}
	}
	return nil
}

// reset forgets the rows and keeps the memory.
func (t *table) reset() {
	t.rows = 0
	for _, slice := range t.columns {
		switch v := slice.(type) {
		case *words:
			*v = (*v)[:0]
		case *[][]string:
			forget(v)
		case *[][]int32:
			forget(v)
		case *[][]int64:
			forget(v)
		case *[]map[string]string:
			forget(v)
		case *[][]any:
			forget(v)
		case *[]string:
			forget(v)
		case *[]int32:
			*v = (*v)[:0]
		case *[]int64:
			*v = (*v)[:0]
		case *[]float64:
			*v = (*v)[:0]
		case *[]bool:
			*v = (*v)[:0]
		case *[]time.Time:
			*v = (*v)[:0]
		}
	}
}

// forget empties a slice of what points into records.
func forget[T any](v *[]T) {
	clear(*v)
	*v = (*v)[:0]
}
