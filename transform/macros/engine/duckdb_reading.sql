{#
    Reading deliveries on DuckDB: every value stays text, records are found by the rules of RFC 4180, and a record that
    breaks them is kept as a malformed line without its values. Another engine writes these macros anew.
#}

{# Files of a feed whose present content `this` has not landed; none as long as one of them cannot be read. #}
{% macro duckdb__new_files(feed) %}
    with listed as (
        select unnest(list_files({{ landing_dir() }}, '{{ feed }}'), recursive := true)
    ),

    landed as (
        {% if load_cached_relation(this) -%}
        select _batch_id, _load_no, _file_size, _file_modified_ns from {{ this }} where _row_no = 0
        {%- else -%}
        select null as _batch_id, 0 as _load_no, 0 as _file_size, 0 as _file_modified_ns where false
        {%- endif %}
    ),

    newest as (
        select _batch_id, max_by(row(_file_size, _file_modified_ns), _load_no) as content
        from landed
        group by _batch_id
    ),

    -- Looking into a file is the costly part: once for each.
    new_files as materialized (
        select
            listed.path as _batch_id,
            listed.size as _file_size,
            listed.modified_ns as _file_modified_ns,
            {{ landing_dir() }} || '/' || listed.path as path,
            inspect_file({{ landing_dir() }} || '/' || listed.path) as inspection
        from listed
        left join newest on listed.path = newest._batch_id
        where
            {{ is_delivery('listed.path') }}
            and row(listed.size, listed.modified_ns) is distinct from newest.content
    )

    select
        _batch_id,
        cast(
            (select coalesce(max(_load_no), 0) from landed) + row_number() over (order by _batch_id) as bigint
        ) as _load_no,
        _file_size,
        _file_modified_ns,
        path,
        inspection.columns as columns,
        to_json(inspection.columns) as header,
        path like '%.parquet' and _file_size > 0 as is_parquet,
        inspection.is_plain as is_plain,
        -- Files that are not plain are read in groups of about 64 MiB, so that memory does not grow with what arrived.
        (sum(_file_size * if(path like '%.gz', 10, 1)) over (order by _batch_id) // 67108864)::bigint as read_group
    from new_files
    where not exists (select 1 from new_files where inspection.fault is not null)
{% endmacro %}

{# What lies in the landing folder and is in no landing table, and why; `landed` holds each content's row 0. #}
{% macro duckdb__unread_files(landed) %}
    with listed as (
        select unnest(list_files({{ landing_dir() }}, ''), recursive := true)
    ),

    newest as (
        select _batch_id, max_by(row(_file_size, _file_modified_ns), _load_no) as content
        from {{ landed }}
        group by _batch_id
    ),

    waiting as materialized (
        select listed.path, inspect_file({{ landing_dir() }} || '/' || listed.path).fault as fault
        from listed
        left join newest on listed.path = newest._batch_id
        where
            {{ is_delivery('listed.path') }}
            and row(listed.size, listed.modified_ns) is distinct from newest.content
    )

    select
        path,
        fault || '; until it is replaced or removed, no new file of its feed is landed' as problem,
        true as is_fault
    from waiting
    where fault is not null
    union all
    select
        {{ landing_dir() }},
        'there is no such folder; LANDING_DIR names it, counted from where dbt_project.yml is; nothing new was landed',
        true
    where not is_folder({{ landing_dir() }})
    union all
    select
        path,
        case
            when path like 'products/%' then 'the one delivery of products is products/current.csv'
            when split_part(path, '/', 1) not in ('{{ feeds() | join("', '") }}')
                then 'there is no feed ' || split_part(path, '/', 1)
            when not ({{ matches("split_part(path, '/', 2)", '[0-9]{4}-[0-9]{2}-[0-9]{2}') }} and {{ is_date("split_part(path, '/', 2)") }})
                then 'its folder is no date (YYYY-MM-DD)'
            when path like '%/' then 'a delivery is a file'
            else 'its name does not end in .csv, .csv.gz or .parquet'
        end,
        false
    from listed
    where not {{ is_delivery('path') }} and not {{ matches('path', '(.*/)?([._][^/]*|[^/]*[.](tmp|part))/?') }}
{% endmacro %}

{% macro duckdb__read_new_files(files, columns) %}
    {# A field is quoted (closed or not, with what follows the closing quote), or plain, or empty. #}
    {%- set field = '"(?:[^"]|"")*(?:"[^,\\r\\n]*|\\z)|[^",\\r\\n][^,\\r\\n]*|' -%}
    select
        _batch_id,
        _load_no,
        cast(0 as bigint) as _row_no,
        false as _is_malformed,
        _file_size,
        _file_modified_ns
        {%- for column in columns %},
        cast(null as varchar) as {{ column }}
        {%- endfor %}
    from {{ files }}
    {# What has no quotes and nothing odd is split by DuckDB on all cores, one header at a time. #}
    {% for group in run_query(
        'select header, to_json(list(path order by _load_no)) as paths from ' ~ files ~ ' where is_plain group by header order by 1'
    ) %}
    {% set header = fromjson(group['header']) %}
    union all
    (
        with lines as materialized (
            select
                filename as path,
                line,
                row_number() over () as line_no
            from read_csv(
                [{% for path in fromjson(group['paths']) %}{{ quoted(path) }}{{ ', ' if not loop.last }}{% endfor %}],
                columns = {'line': 'varchar'},
                auto_detect = false,
                header = false,
                delim = '\x01',
                quote = '',
                escape = '',
                filename = true
            )
            where line <> ''
        ),

        headers as (
            select path, min(line_no) as line_no from lines group by path
        ),

        records as (
            select
                lines.path,
                lines.line_no - headers.line_no as _row_no,
                string_split(lines.line, ',') as fields
            from lines
            inner join headers on lines.path = headers.path
            where lines.line_no > headers.line_no
        )

        select
            files._batch_id,
            files._load_no,
            records._row_no,
            len(records.fields) <> {{ header | length }},
            null,
            null
            {%- for column in columns %},
            {% if column in header -%}
            case when len(records.fields) = {{ header | length }} then nullif(records.fields[{{ header.index(column) + 1 }}], '') end
            {%- else -%} null {%- endif %}
            {%- endfor %}
        from records
        inner join {{ files }} as files on records.path = files.path
    )
    {% endfor %}
    {% for group in run_query('select distinct read_group from ' ~ files ~ ' where not is_plain and not is_parquet order by 1') %}
    union all
    (
        with contents as (
            select _batch_id, _load_no, columns, read_file(path) as bytes
            from {{ files }}
            where not is_plain and not is_parquet and read_group = {{ group['read_group'] }}
        ),

        -- Bytes that are not UTF-8 are judged record by record: until then all but ASCII stays escaped.
        texts as (
            select
                _batch_id,
                _load_no,
                columns,
                try(decode(bytes)) is not null as is_decoded,
                coalesce(
                    try(decode(bytes)),
                    replace(replace(replace(bytes::varchar, '\x0A', chr(10)), '\x0D', chr(13)), '\x22', '"')
                ) as text
            from contents
        ),

        record_lists as (
            select
                _batch_id,
                _load_no,
                columns,
                is_decoded,
                list_filter(
                    case
                        when contains(text, '"')
                            then regexp_extract_all(
                                text, '((?:{{ field }})(?:,(?:{{ field }}))*)(?:\r\n|\n|\r|\z)', 1
                            )
                        else string_split(replace(replace(text, chr(13) || chr(10), chr(10)), chr(13), chr(10)), chr(10))
                    end,
                    lambda record: record <> ''
                ) as records
            from texts
        ),

        -- The first record is the header, so that the first line of data has number 1.
        numbered as (
            select
                _batch_id,
                _load_no,
                columns,
                is_decoded,
                generate_subscripts(records, 1) - 1 as _row_no,
                unnest(records) as record
            from record_lists
        ),

        decoded as (
            select
                _batch_id,
                _load_no,
                columns,
                _row_no,
                case when is_decoded then record else try(decode(record::blob)) end as record
            from numbered
            where _row_no > 0
        ),

        split as (
            select
                _batch_id,
                _load_no,
                columns,
                _row_no,
                contains(record, '"') as has_quotes,
                case
                    when contains(record, '"') then regexp_extract_all(',' || record, ',({{ field }})', 1)
                    else string_split(record, ',')
                end as fields
            from decoded
        ),

        judged as (
            select
                _batch_id,
                _load_no,
                columns,
                _row_no,
                has_quotes,
                fields,
                fields is null
                or len(fields) <> len(columns)
                or (
                    has_quotes
                    and list_bool_or(
                        list_transform(
                            fields,
                            lambda field: starts_with(field, '"') and not regexp_full_match(field, '"(?:[^"]|"")*"')
                        )
                    )
                ) as is_malformed
            from split
        ),

        unquoted as (
            select
                _batch_id,
                _load_no,
                columns,
                _row_no,
                is_malformed,
                case
                    when is_malformed then null
                    when has_quotes
                        then list_transform(
                            fields,
                            lambda field: if(starts_with(field, '"'), replace(field[2:-2], '""', '"'), field)
                        )
                    else fields
                end as fields
            from judged
        )

        select
            _batch_id,
            _load_no,
            _row_no,
            is_malformed,
            null,
            null
            {%- for column in columns %},
            nullif(fields[list_position(columns, '{{ column }}')], '')
            {%- endfor %}
        from unquoted
    )
    {% endfor %}
    {% for file in run_query('select * from ' ~ files ~ ' where is_parquet order by _load_no') %}
    {% set header = fromjson(file['header']) %}
    union all
    select
        {{ quoted(file['_batch_id']) }},
        {{ file['_load_no'] }},
        row_no + 1,
        false,
        null,
        null
        {%- for column in columns %},
        {% if column in header %}nullif(c{{ header.index(column) }}, ''){% else %}null{% endif %}
        {%- endfor %}
    from read_parquet(
        -- A name may hold the characters of a pattern.
        {{ quoted(modules.re.sub('([*?\\[])', '[\\1]', file['path'])) }},
        file_row_number = true,
        hive_partitioning = false
    ) as file ({% for column in header %}c{{ loop.index0 }}, {% endfor %}row_no)
    {% endfor %}
{% endmacro %}

{% macro duckdb__newest_arrival(feed) -%}
    {%- set landed = load_cached_relation(api.Relation.create(target.database, 'landing', 'landing_' ~ feed)) if execute -%}
    select cast(make_timestamp_ns(max(modified_ns)) as timestamp) as arrived_at
    from (
        select files.modified_ns
        from (select unnest(list_files({{ landing_dir() }}, '{{ feed }}')) as files)
        where {{ is_delivery('files.path') }}
        {%- if landed %}
        union all
        select _file_modified_ns from {{ landed }} where _row_no = 0
        {%- endif %}
    )
{%- endmacro %}
