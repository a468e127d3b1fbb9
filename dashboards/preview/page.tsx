// Draws the dashboard with the panels of @grafana/ui, with live data of a Prometheus.
// What @grafana/ui does not export (state timeline, heatmap, table) is drawn plainly, in the
// colors and units that Grafana's own display processors give.
import {
  applyFieldOverrides, createDataFrame, createTheme, DataFrame, dateTime, Field, FieldType,
  getDisplayProcessor, getDisplayValueAlignmentFactors, getFieldDisplayValues, Registry,
  standardTransformers, standardTransformersRegistry, ThemeContext, transformDataFrame,
} from '@grafana/data';
import { BarGauge, BigValue, GlobalStyles, PanelChrome, TimeSeries, VizRepeater } from '@grafana/ui';
import { Component, ReactNode } from 'react';
import { createRoot } from 'react-dom/client';
import 'uplot/dist/uPlot.min.css';
import { lastValueFrom } from 'rxjs';

type Json = any; // The dashboard's own model, which test and type check know.

const asked = new URLSearchParams(location.search);
const theme = createTheme({ colors: { mode: (asked.get('theme') as 'dark') ?? 'dark' } });
const SPAN = Number(asked.get('span') ?? 30);
const WIDTH = 1500;
const CELL = 36;
const now = Number(asked.get('now') ?? Date.now() / 1000);
const RANGE = { from: dateTime((now - SPAN) * 1000), to: dateTime(now * 1000), raw: { from: '', to: '' } };
const MACROS: Record<string, string> = { $job: '.+', $instance: '.+', $service: '.+', $__rate_interval: '3s' };

function expand(expr: string): string {
  return Object.entries(MACROS).reduce((text, [name, value]) => text.replaceAll(name, value), expr);
}

async function ask(target: Json): Promise<Json[]> {
  const fields = new URLSearchParams({ query: expand(target.expr) });
  if (target.instant) {
    fields.set('time', String(now));
  } else {
    Object.entries({ start: now - SPAN, end: now, step: 0.5 }).forEach(([k, v]) => fields.set(k, String(v)));
  }
  const path = target.instant ? 'query' : 'query_range';
  const answer = await (await fetch(`${asked.get('prometheus')}/api/v1/${path}?${fields}`)).json();
  if (answer.status !== 'success') {
    throw new Error(answer.error);
  }
  return answer.data.result;
}

function series(target: Json, result: Json): DataFrame {
  const values: Array<[number, string]> = result.values ?? [result.value];
  const name = target.legendFormat.replace(/{{\s*(\w+)\s*}}/g, (_: string, key: string) => result.metric[key] ?? '');
  return createDataFrame({
    refId: target.refId,
    fields: [
      { name: 'Time', type: FieldType.time, values: values.map((v) => v[0] * 1000) },
      {
        name: 'Value', type: FieldType.number, labels: result.metric, values: values.map((v) => Number(v[1])),
        config: { displayNameFromDS: name },
      },
    ],
  });
}

function asTable(target: Json, results: Json[]): DataFrame {
  const labels = [...new Set(results.flatMap((each) => Object.keys(each.metric)))];
  return createDataFrame({
    refId: target.refId,
    fields: [
      { name: 'Time', type: FieldType.time, values: results.map((each) => each.value[0] * 1000) },
      ...labels.map((l) => ({ name: l, type: FieldType.string, values: results.map((each) => each.metric[l] ?? '') })),
      { name: 'Value', type: FieldType.number, values: results.map((each) => Number(each.value[1])) },
    ],
  });
}

async function load(panel: Json): Promise<DataFrame[]> {
  const frames: DataFrame[] = [];
  for (const target of panel.targets ?? []) {
    const results = await ask(target);
    frames.push(...(target.format === 'table' ? [asTable(target, results)] : results.map((r) => series(target, r))));
  }
  return panel.transformations ? lastValueFrom(transformDataFrame(panel.transformations, frames)) : frames;
}

const NAMES = ['unit', 'min', 'max', 'decimals', 'links', 'color', 'mappings', 'thresholds', 'noValue', 'displayName'];
const CUSTOM = ['fillOpacity', 'lineWidth', 'lineStyle', 'drawStyle', 'showPoints', 'spanNulls', 'stacking', 'thresholdsStyle', 'align', 'inspect', 'axisSoftMax'];
function option(name: string, isCustom: boolean): Json {
  return {
    id: isCustom ? `custom.${name}` : name, path: name, name, isCustom, process: (value: unknown) => value,
    shouldApply: () => true, override: () => null, editor: () => null,
  };
}
const options = new Registry(() => [...NAMES.map((n) => option(n, false)), ...CUSTOM.map((n) => option(n, true))]);

function Body({ panel, frames, width, height }: { panel: Json; frames: DataFrame[]; width: number; height: number }) {
  const replaceVariables = (text: string) => text;
  const data = applyFieldOverrides({
    data: frames, fieldConfig: panel.fieldConfig, replaceVariables, theme, fieldConfigRegistry: options as Json, timeZone: 'utc',
  });
  if (!data.some((frame) => frame.length)) {
    return <div style={{ color: '#888', padding: 20 }}>{panel.fieldConfig.defaults.noValue ?? 'No data'}</div>;
  }
  if (panel.type === 'stat' || panel.type === 'bargauge') {
    return <Values panel={panel} data={data} width={width} height={height} />;
  }
  if (panel.type === 'timeseries') {
    return (
      <TimeSeries frames={data} width={width} height={height} timeRange={RANGE as Json} timeZone="utc" structureRev={1}
        legend={{ displayMode: 'list' as Json, placement: 'bottom', showLegend: true, calcs: [] }} />
    );
  }
  if (panel.type === 'table') {
    return <Rows frame={data[0]} />;
  }
  return panel.type === 'heatmap' ? <Heatmap data={data} height={height} /> : <Timeline data={data} />;
}

function Values({ panel, data, width, height }: { panel: Json; data: DataFrame[]; width: number; height: number }) {
  const chosen = panel.options;
  const values = () => getFieldDisplayValues({
    fieldConfig: panel.fieldConfig, reduceOptions: chosen.reduceOptions, replaceVariables: (text) => text, theme, data, timeZone: 'utc',
  });
  return (
    <VizRepeater getValues={values} getAlignmentFactors={getDisplayValueAlignmentFactors} width={width} height={height}
      source={data} autoGrid={panel.type === 'stat'} orientation={chosen.orientation} renderCounter={0}
      minVizHeight={chosen.minVizHeight}
      itemSpacing={chosen.displayMode === 'lcd' ? 2 : 10}
      renderValue={({ value, width, height, orientation, count, alignmentFactors }: Json) =>
        panel.type === 'stat' ? (
          <BigValue value={value.display} width={width} height={height} count={count} theme={theme} hasLinks={false}
            colorMode={chosen.colorMode} graphMode={chosen.graphMode} justifyMode={chosen.justifyMode}
            textMode={chosen.textMode} alignmentFactors={alignmentFactors} />
        ) : (
          <BarGauge value={value.display} width={width} height={height} orientation={orientation} field={value.field}
            theme={theme} itemSpacing={2} lcdCellWidth={12} displayMode={chosen.displayMode} showUnfilled
            valueDisplayMode={chosen.valueMode} namePlacement={chosen.namePlacement} alignmentFactors={alignmentFactors} isOverflow={false}
            display={value.view?.getFieldDisplayProcessor?.(value.colIndex)} />
        )} />
  );
}

function Rows({ frame }: { frame: DataFrame }) {
  const cell = { padding: '2px 8px', borderBottom: '1px solid #8884', textAlign: 'left' as const };
  const text = (field: Field, value: unknown) => {
    const shown = (field.display ?? getDisplayProcessor({ field, theme, timeZone: 'utc' }))(value);
    return `${shown.prefix ?? ''}${shown.text}${shown.suffix ?? ''}`;
  };
  return (
    <table style={{ width: '100%', fontSize: 12 }}>
      <thead><tr>{frame.fields.map((field) => <th key={field.name} style={cell}>{field.name}</th>)}</tr></thead>
      <tbody>
        {Array.from({ length: frame.length }, (_, row) => (
          <tr key={row}>{frame.fields.map((field) => <td key={field.name} style={cell}>{text(field, field.values[row])}</td>)}</tr>
        ))}
      </tbody>
    </table>
  );
}

function position(time: number): string {
  return `${((time / 1000 - now + SPAN) / SPAN) * 100}%`;
}

function Timeline({ data }: { data: DataFrame[] }) {
  const box = (field: Field, times: number[], index: number) => {
    const display = field.display ?? getDisplayProcessor({ field, theme, timeZone: 'utc' });
    const background = display(field.values[index]).color;
    return <div key={index} style={{ position: 'absolute', left: position(times[index]), width: '1.9%', top: 0, bottom: 0, background }} />;
  };
  return (
    <div style={{ overflow: 'hidden' }}>
      {data.map((frame, row) => (
        <div key={row} style={{ display: 'flex', height: 17, marginBottom: 2, fontSize: 11, alignItems: 'center' }}>
          <span style={{ width: 250 }}>{frame.fields[1].config.displayNameFromDS}</span>
          <div style={{ position: 'relative', flex: 1, height: 15 }}>
            {frame.fields[0].values.map((_: number, i: number) => box(frame.fields[1], frame.fields[0].values as number[], i))}
          </div>
        </div>
      ))}
    </div>
  );
}

function Heatmap({ data, height }: { data: DataFrame[]; height: number }) {
  const rows = [...data].sort((a, b) => Number(a.fields[1].labels!.le) - Number(b.fields[1].labels!.le));
  const cells = rows.map((frame, row) => {
    const below = new Map<number, number>();
    const lower = rows[row - 1];
    lower?.fields[0].values.forEach((time: number, i: number) => below.set(time, lower.fields[1].values[i]));
    return frame.fields[0].values.map((time: number, i: number) => ({ time, count: frame.fields[1].values[i] - (below.get(time) ?? 0) }));
  });
  const most = Math.max(1, ...cells.flat().map((cell) => cell.count));
  return (
    <div style={{ position: 'relative', height: height - 10, marginLeft: 40 }}>
      {cells.map((row, r) => (
        <div key={r} style={{ position: 'absolute', left: 0, right: 0, height: `${100 / rows.length}%`, bottom: `${(r * 100) / rows.length}%` }}>
          <span style={{ position: 'absolute', left: -38, fontSize: 9 }}>{rows[r].fields[1].labels!.le}</span>
          {row.map((cell, i) => (
            <div key={i} style={{ position: 'absolute', left: position(cell.time), width: '1.5%', top: 0, bottom: 1, background: `rgba(255, 152, 48, ${Math.sqrt(Math.max(0, cell.count) / most)})` }} />
          ))}
        </div>
      ))}
    </div>
  );
}

class Guard extends Component<{ children: ReactNode }, { error?: Error }> {
  state: { error?: Error } = {};
  static getDerivedStateFromError(error: Error) {
    return { error };
  }
  render() {
    return this.state.error ? <pre className="fault">{String(this.state.error.stack)}</pre> : this.props.children;
  }
}

function Panel({ panel, frames }: { panel: Json; frames: DataFrame[] }) {
  const { x, y, w, h } = panel.gridPos;
  const place = { position: 'absolute' as const, left: (x / 24) * WIDTH, top: y * CELL };
  if (panel.type === 'row') {
    return <div style={{ ...place, paddingTop: 8, fontSize: 16 }}>▾ {panel.title}</div>;
  }
  const width = (w / 24) * WIDTH - 8;
  const height = h * CELL - 8;
  return (
    <div style={{ ...place, width, height }} data-panel={panel.title} data-empty={!frames.some((f) => f.length)}>
      <PanelChrome title={panel.title} description={panel.description} width={width} height={height}>
        {(innerWidth, innerHeight) => (
          <Guard><Body panel={panel} frames={frames} width={innerWidth} height={innerHeight} /></Guard>
        )}
      </PanelChrome>
    </div>
  );
}

async function main() {
  standardTransformersRegistry.setInit(() => [
    { id: 'groupingToMatrix', name: '', transformation: standardTransformers.groupingToMatrixTransformer },
    { id: 'organize', name: '', transformation: standardTransformers.organizeFieldsTransformer },
  ] as Json);
  const dashboard = await (await fetch('dashboard.json')).json();
  const data = await Promise.all(dashboard.panels.map(load));
  const height = Math.max(...dashboard.panels.map((p: Json) => p.gridPos.y + p.gridPos.h)) * CELL;
  Object.assign(window, {
    palette: Object.fromEntries(['red', 'yellow', 'green'].map((name) => [name, theme.visualization.getColorByName(name)])),
  });
  createRoot(document.getElementById('root')!).render(
    <ThemeContext.Provider value={theme}>
      <GlobalStyles />
      <div style={{ position: 'relative', width: WIDTH, height, margin: 12 }}>
        {dashboard.panels.map((panel: Json, i: number) => <Panel key={panel.id} panel={panel} frames={data[i]} />)}
      </div>
    </ThemeContext.Provider>,
  );
  setTimeout(() => { document.title = 'ready'; }, 1500);
}

main().catch((error) => {
  document.body.innerHTML = `<pre class="fault">${error.stack}</pre>`;
  document.title = 'ready';
});
