{#
    Problem: a model's logic changes, and its incremental table keeps rows made by the old logic.
    Usually patched in: a full-refresh flag, a job for it, a checklist in the pull request.
    Why here: whether a table is what its model says is a fact about the two, not about who started the run.
    How it corrects itself: each build stores a fingerprint of the logic; a build that finds another one, or a parent
    rebuilt since it last read it, is a full one. Comments and white space are not logic; macros and seeds are.
#}

{# Replaces dbt's own; `is_incremental()` and the materializations ask it. #}
{% macro should_full_refresh() %}
    {% if config.get('full_refresh') is not none %}
        {{ return(config.get('full_refresh')) }}
    {% endif %}
    {{ return(flags.FULL_REFRESH or is_out_of_date()) }}
{% endmacro %}

{# Whether the table was made by other logic, or from a parent that has been rebuilt since. Found out once for each
   model, because its code asks many times: `model` is dbt's own record of it, and lives as long. #}
{% macro is_out_of_date() %}
    {% if 'is_out_of_date' in model %}
        {{ return(model.is_out_of_date) }}
    {% endif %}
    {% set query %}
        with last_build as (
            select fingerprint
            from {{ change_feed_of('_builds') }}
            where model = '{{ this.identifier }}'
            order by build_no desc
            limit 1
        ),

        last_reads as (
            select upstream, max(upstream_build_no) as build_no
            from {{ change_feed_of('_reads') }}
            where model = '{{ this.identifier }}'
            group by upstream
        )

        select 1 as is_up_to_date
        from last_build
        where
            fingerprint = '{{ logic_fingerprint(model) }}'
            and not exists (
                select 1
                from last_reads
                inner join {{ change_feed_of('_builds') }} as parents on last_reads.upstream = parents.model
                where parents.is_rebuild and parents.build_no > last_reads.build_no
            )
    {% endset %}
    {% do model.update({'is_out_of_date': run_query(query) | length == 0}) %}
    {{ return(model.is_out_of_date) }}
{% endmacro %}

{# A hook after every model and snapshot, in its transaction: what it was built by, and how far it has read. #}
{% macro record_build() %}
    {% if execute %}
    {% set is_rebuild = load_cached_relation(this) is none or flags.FULL_REFRESH or is_out_of_date() %}
    {% if is_rebuild and config.get('change_feed') %}
    create or replace table {{ change_feed_of(this.identifier) }} as
    select cast(0 as bigint) as build_no, {{ config.get('change_feed') | join(', ') }} from {{ this }} where false;
    {% endif %}
    insert into {{ change_feed_of('_builds') }}
    select '{{ this.identifier }}', {{ next_build_no() }}, '{{ logic_fingerprint(model) }}', {{ is_rebuild }};
    {% for parent in model.depends_on.nodes if parent.startswith(('model.', 'snapshot.')) %}
    {% set parent = graph.nodes[parent].alias %}
    insert into {{ change_feed_of('_reads') }}
    select '{{ this.identifier }}', {{ next_build_no() }} - 1, '{{ parent }}', max(build_no)
    from {{ change_feed_of('_builds') }}
    where model = '{{ parent }}'
    having count(*) > 0;
    {% endfor %}
    {% endif %}
{% endmacro %}

{% macro next_build_no() -%}
    (select coalesce(max(build_no), 0) + 1 from {{ change_feed_of('_builds') }} where model = '{{ this.identifier }}')
{%- endmacro %}

{# A hash of all that decides what the node's rows are: its code and keys, the types of its contract, what it tests, the
   macros of this project that it uses, directly or not, and the content of the seeds that it reads. #}
{% macro logic_fingerprint(node) %}
    {# Found out once for each node and macro: dbt keeps `graph` as long as it runs. #}
    {% set known = graph.setdefault('logic', {}) %}
    {% if node.unique_id in known %}
        {{ return(known[node.unique_id]) }}
    {% endif %}
    {% set parts = [logic_of(node.raw_code), node.config.get('unique_key') | string, node.config.get('change_feed') | string] %}
    {% for column in node.columns.values() %}
        {% do parts.append(column.name ~ ' ' ~ column.data_type) %}
    {% endfor %}
    {% do parts.append(node.test_metadata.kwargs | string if node.test_metadata) %}
    {% for name in node.depends_on.get('nodes', []) + [node.unique_id] if name.startswith('seed.') %}
        {% do parts.append(graph.nodes[name].checksum.checksum) %}
    {% endfor %}
    {% set macros = node.depends_on.macros | sort %}
    {% for name in macros if name.split('.')[1] == project_name %}
        {% set used = context[name.split('.')[2]].macro %}
        {% if name not in known %}
            {% do known.update({name: logic_of(used.macro_sql)}) %}
        {% endif %}
        {% do parts.append(known[name]) %}
        {% do macros.extend(used.depends_on.macros | sort | reject('in', macros)) %}
    {% endfor %}
    {% do known.update({node.unique_id: local_md5(parts | join('\n'))}) %}
    {{ return(known[node.unique_id]) }}
{% endmacro %}

{# Code without its comments and white space. Quoted text is kept as it is, so that `'--'` starts no comment. #}
{% macro logic_of(code) %}
    {# \x27 is a single quote and \x22 a double one: written so that this macro can read its own code. #}
    {% set quoted = '(\x27(?:[^\x27]|\x27\x27)*\x27|\x22[^\x22]*\x22)' %}
    {% set token = quoted ~ '|--[^\n]*|/\*.*?\*/|\{#.*?#\}|(\w+|[^\s\w])' %}
    {% set tokens = [] %}
    {% for quoted, plain in modules.re.findall(token, code, modules.re.DOTALL) if quoted or plain %}
        {% do tokens.append(quoted or plain) %}
    {% endfor %}
    {{ return(tokens | join(' ')) }}
{% endmacro %}
