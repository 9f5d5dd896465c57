{#
    Problem: the last row of a group is deleted, moved or retracted, and the group's old result stays for ever.
    Usually patched in: a pre-step that deletes a date range, or a weekly full refresh.
    Why here: `delete+insert` and `merge` touch only keys that the new rows hold; only the model knows which keys
    could have lost theirs.
    How it corrects itself: the strategy `recompute` deletes every affected key (late_arrivals.sql) and inserts what
    the select gives for them, be it nothing, in one transaction; rows that differ are told to the models downstream.
#}

{# A table that is out of date and may not be rebuilt tells no changes: record_build starts its feed anew, and what is
   downstream reads the whole of it. #}
{% macro get_incremental_recompute_sql(arg_dict) %}
    {{ return(adapter.dispatch('recompute_sql')(
        arg_dict['target_relation'],
        arg_dict['temp_relation'],
        [arg_dict['unique_key']] if arg_dict['unique_key'] is string else arg_dict['unique_key'],
        arg_dict['dest_columns'] | map(attribute='quoted') | join(', '),
        [] if is_out_of_date() else config.get('change_feed', [])
    )) }}
{% endmacro %}

{# What is kept beside the tables: a feed of changes for each, one row per build of a model in `_builds`, and how far
   into the feeds of its parents a model had read by then in `_reads`. Rows are only added, so that models built in
   parallel never wait for each other, and in the model's own transaction, so that a killed build leaves no trace. #}
{% macro create_change_feed() %}
    create schema if not exists {{ change_feed_of('_builds').without_identifier() }};
    create table if not exists {{ change_feed_of('_builds') }} (
        model varchar, build_no bigint, fingerprint varchar, is_rebuild boolean
    );
    create table if not exists {{ change_feed_of('_reads') }} (
        model varchar, build_no bigint, upstream varchar, upstream_build_no bigint
    );
    create table if not exists {{ change_feed_of('_published') }} (
        version varchar, model varchar, build_no bigint
    );
    create table if not exists {{ change_feed_of('_failed_tests') }} (test varchar);
{% endmacro %}
