//go:build !noembed && (linux || darwin)

package embedded

import (
	"encoding/xml"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// clickhouseConfig suits a machine that ClickHouse shares with everything else: few background threads, a memory cap,
// and no section for a system log table, so that there is none: nobody reads them here and they would grow.
// Merges took half of the CPU at a low rate. With the selector's usual base of 5 each row was merged 18 times within 12
// flushes, with 20 only 3 times, at the price of some more parts. Nobody here plans queries by column statistics.
const clickhouseConfig = `<clickhouse>
  <logger><level>warning</level><console>1</console></logger>
  <keep_alive_timeout>1</keep_alive_timeout>
  <shutdown_wait_unfinished>1</shutdown_wait_unfinished>
  <max_server_memory_usage>6000000000</max_server_memory_usage>
  <max_concurrent_queries>200</max_concurrent_queries>
  <max_connections>512</max_connections>
  <mark_cache_size>268435456</mark_cache_size>
  <uncompressed_cache_size>0</uncompressed_cache_size>
  <background_pool_size>4</background_pool_size>
  <background_merges_mutations_concurrency_ratio>2</background_merges_mutations_concurrency_ratio>
  <background_schedule_pool_size>8</background_schedule_pool_size>
  <background_streaming_schedule_pool_size>8</background_streaming_schedule_pool_size>
  <background_common_pool_size>2</background_common_pool_size>
  <timezone>UTC</timezone>
  <merge_tree>
    <merge_selector_base>20</merge_selector_base>
    <auto_statistics_types></auto_statistics_types>
    <number_of_free_entries_in_pool_to_lower_max_size_of_merge>2</number_of_free_entries_in_pool_to_lower_max_size_of_merge>
    <number_of_free_entries_in_pool_to_execute_mutation>2</number_of_free_entries_in_pool_to_execute_mutation>
    <number_of_free_entries_in_pool_to_execute_optimize_entire_partition>2</number_of_free_entries_in_pool_to_execute_optimize_entire_partition>
  </merge_tree>
  <users_config>%s</users_config>
</clickhouse>
`

// clickhouseUsers has the user of the programs and the one of the people. The analyst may SELECT, nothing else: no
// writing, no other sources (files, addresses), within bounds that leave room for the pipeline.
const clickhouseUsers = `<clickhouse>
  <profiles>
    <default>
      <poll_interval>1</poll_interval>
      <max_memory_usage>4000000000</max_memory_usage>
      <log_queries>0</log_queries>
    </default>
    <analyst>
      <readonly>2</readonly>
      <max_memory_usage>2000000000</max_memory_usage>
      <max_execution_time>120</max_execution_time>
      <constraints>
        <readonly><const/></readonly>
        <max_memory_usage><min>1</min><max>2000000000</max></max_memory_usage>
        <max_execution_time><min>1</min><max>120</max></max_execution_time>
      </constraints>
    </analyst>
  </profiles>
  <users>
    <default>
      <password></password>
      <networks><ip>127.0.0.1</ip><ip>::1</ip></networks>
      <profile>default</profile>
      <quota>default</quota>
    </default>
    <analyst>
      <password></password>
      <networks><ip>127.0.0.1</ip><ip>::1</ip></networks>
      <profile>analyst</profile>
      <quota>default</quota>
      <grants><query>GRANT SELECT ON *.*</query></grants>
    </analyst>
  </users>
  <quotas><default/></quotas>
</clickhouse>
`

// writeClickHouseConfig writes both files anew, so that they always fit this program, and returns the main one.
func writeClickHouseConfig(dataDir string) (string, error) {
	users := filepath.Join(dataDir, "clickhouse-users.xml")
	config := filepath.Join(dataDir, "clickhouse-config.xml")
	var escaped strings.Builder
	if err := xml.EscapeText(&escaped, []byte(users)); err != nil {
		return "", fmt.Errorf("write ClickHouse configuration: %w", err)
	}
	for path, text := range map[string]string{users: clickhouseUsers, config: fmt.Sprintf(clickhouseConfig, escaped.String())} {
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			return "", fmt.Errorf("write ClickHouse configuration: %w", err)
		}
	}
	return config, nil
}
