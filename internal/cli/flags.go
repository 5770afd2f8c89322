package cli

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// ttlValue is a flag for a lifetime: 8h, 90m, 30d, or a number of minutes.
type ttlValue time.Duration

const day = 24 * time.Hour

func (v *ttlValue) String() string {
	if *v == 0 {
		return ""
	}
	return time.Duration(*v).String()
}

// Set reads the text of the flag.
func (v *ttlValue) Set(text string) error {
	d, err := time.ParseDuration(text)
	if minutes, atoi := strconv.ParseInt(text, 10, 32); atoi == nil {
		d, err = time.Duration(minutes)*time.Minute, nil
	}
	if days, found := strings.CutSuffix(text, "d"); found {
		if n, atoi := strconv.ParseInt(days, 10, 16); atoi == nil {
			d, err = time.Duration(n)*day, nil
		}
	}
	if err != nil || d <= 0 {
		return fmt.Errorf("%q is not a lifetime such as 8h, 30d or 90 (minutes)", text)
	}
	*v = ttlValue(d)
	return nil
}

// Type names the kind of value in help texts.
func (v *ttlValue) Type() string { return "duration" }

// formatFlag adds --format.
func formatFlag(cmd *cobra.Command, into *string, formats ...string) {
	cmd.Flags().StringVarP(into, "format", "f", formats[0], "output format: "+strings.Join(formats, ", "))
	completeWith(cmd, "format", formats...)
}

// completeWith offers fixed words for a flag.
func completeWith(cmd *cobra.Command, flag string, words ...string) {
	// Fails for a flag that does not exist or has one already, both seen by the
	// first test that builds the tree.
	if err := cmd.RegisterFlagCompletionFunc(flag, cobra.FixedCompletions(words, cobra.ShellCompDirectiveNoFileComp)); err != nil {
		panic(err)
	}
}

// selection narrows databases down without naming one.
type selection struct {
	labels map[string]string
	query  string
}

func (s *selection) addFlags(flags *pflag.FlagSet) {
	labelsFlag(flags, &s.labels)
	flags.StringVar(&s.query, "query", "", `only databases whose labels make this true, such as 'labels["env"] == "prod"'`)
}

// any reports whether it narrows anything.
func (s *selection) any() bool { return len(s.labels) > 0 || s.query != "" }

// labelsFlag reads k=v,k2=v2.
func labelsFlag(flags *pflag.FlagSet, into *map[string]string) {
	flags.StringToStringVar(into, "labels", nil, "only databases with these labels, as key=value,...")
}
